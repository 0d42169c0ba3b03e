"""What schemathesis checks of the API beside its own; `api_schema.toml` loads it."""

import json
from typing import Any

import schemathesis


@schemathesis.check
def what_the_document_describes_is_understood(_context: Any, response: Any, case: Any) -> None:
    """Decisions that fit the document have outcomes, be they refusals; others are refused whole."""
    asked = (case.operation.method, case.method) == ("post", "POST")
    if not asked or not case.operation.path.endswith("/decisions"):
        return
    fits = case.meta.generation.mode.is_positive
    understood = "outcomes" in json.loads(response.content)
    assert fits == understood, f"fits the document: {fits}; understood: {understood}"
