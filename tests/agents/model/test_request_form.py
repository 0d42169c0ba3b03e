import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.agents.contracts import RefundAnswer, response_format
from caspers_lib.agents.model.request_form import (
    FormPart,
    RequestForm,
    refused_part,
    request_body,
)
from caspers_lib.agents.model.settings import Message, ModelSettings

SETTINGS = ModelSettings(base_url="http://127.0.0.1:9/v1", model="m")
HELLO = (Message("system", "Be fair."), Message("user", "Order o-1?"))
REQUEST = request_body(RequestForm(), SETTINGS, HELLO, response_format(RefundAnswer))
PARTS: list[FormPart] = ["output_limit", "temperature", "strict", "response_format", "system"]


def openai(message: str, **fields: object) -> dict[str, object]:
    return {"error": {"message": message, "type": "invalid_request_error", **fields}}


def part(error: object, status: int = 400, request: dict[str, object] = REQUEST) -> str | None:
    return refused_part(status, json.dumps(error).encode(), request)


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (openai("no", param="max_tokens"), "output_limit"),
        (openai("max_tokens is too large: 5000", param="max_tokens"), "output_limit"),
        (openai("invalid temperature: only 1 is allowed for this model"), "temperature"),
        (openai("`temperature` may only be set to 1 when thinking is enabled."), "temperature"),
        (openai("temperature is deprecated for this model."), "temperature"),
        (openai("'response_format.type' must be 'json_schema' or 'text'"), "response_format"),
        (
            openai("Response_format value as json_schema is enabled only for api versions 2024-08"),
            "response_format",
        ),
        (
            openai("'messages' must contain the word 'json' to use 'response_format'"),
            "response_format",
        ),
        ({"error_code": "BAD_REQUEST", "message": 'Bad request: json: unknown field "strict"'},
         "strict"),
        (openai("Invalid schema for response_format: in strict mode x must be y"), "strict"),
        (openai("Developer instruction is not enabled for models/gemma-3-27b-it"), "system"),
        (openai("The model `m` does not exist", code="model_not_found"), "model"),
        ({"error": {"message": "Provider returned error", "metadata": {
            "raw": '{"message": "unsupported response_format"}'}}}, "response_format"),
        ({"errors": [{"detail": "Unexpected parameter temperature"}]}, "temperature"),
    ],
)  # fmt: skip
def test_an_error_about_the_form_names_the_part_that_is_refused(
    error: object, refused: str
) -> None:
    assert part(error) == refused


@pytest.mark.parametrize(
    "error",
    [
        openai("This model's maximum context length is 8192 tokens; max_tokens must be less",
               param="messages", code="context_length_exceeded"),
        openai("'max_tokens' is too large: 9. This model's maximum context length is 8 tokens"),
        openai("The prompt triggered the content management policy", code="content_filter"),
        openai("no"),
        openai("Unknown parameter: 'seed'", param="seed"),
        {"detail": [{"loc": ["body", "messages", 0, "content"], "msg": "too long",
                     "input": "an unsupported temperature and response_format"}]},
        "temperature",
        7,
        None,
    ],
)  # fmt: skip
def test_another_error_is_not_about_the_form(error: object) -> None:
    assert part(error) is None


def test_what_was_not_sent_is_not_refused() -> None:
    request: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    errors = [
        openai(f"Unsupported parameter: {name}", param=name)
        for name in ("temperature", "response_format", "messages[0].role")
    ]
    assert [part(error, request=request) for error in errors] == [None] * 3


@pytest.mark.parametrize("status", [401, 402, 403, 408, 429, 503])
def test_an_error_of_another_kind_is_not_about_the_form(status: int) -> None:
    assert part(openai("Unsupported parameter", param="temperature"), status) is None


def test_a_failing_server_that_misses_the_model_may_find_it_again() -> None:
    assert part(openai("model not found", code="model_not_found"), 500) is None


def test_instructions_without_a_system_message_begin_the_first_user_message() -> None:
    repair = (Message("assistant", "no"), Message("user", "Again."))
    body = request_body(RequestForm(has_system=False), SETTINGS, HELLO + repair, None)
    assert body["messages"] == [
        {"role": "user", "content": "Be fair.\n\nOrder o-1?"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": "Again."},
    ]


def test_a_format_is_given_up_step_by_step_in_both_apis() -> None:
    shapes: list[Any] = []
    form: RequestForm | None = RequestForm()
    while form:
        chat = request_body(form, SETTINGS, HELLO, response_format(RefundAnswer))
        settings = ModelSettings(base_url="http://127.0.0.1:9", model="m", api="responses")
        responses = request_body(form, settings, HELLO, response_format(RefundAnswer))
        wanted: Any = chat.get("response_format")
        flat: Any = responses.get("text", {}).get("format")  # type: ignore[attr-defined]
        assert (wanted is None) == (flat is None)
        if wanted is not None:
            assert flat == {"type": wanted["type"], **wanted.get("json_schema", {})}
        shapes.append(wanted and (wanted["type"], "strict" in str(wanted)))
        form = form.without("strict" if form.response_format == "strict" else "response_format")
    assert shapes == [("json_schema", True), ("json_schema", False), ("json_object", False), None]


@given(st.lists(st.sampled_from(PARTS), max_size=40))
def test_a_form_is_adapted_a_few_times_and_then_no_more(refusals: list[FormPart]) -> None:
    form, adaptations = RequestForm(), 0
    for refused in refusals:
        if adapted := form.without(refused):
            form, adaptations = adapted, adaptations + 1
    assert adaptations <= 6
