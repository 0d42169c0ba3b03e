"""Names of Model Serving endpoints, checked in one place: some SQL takes them as literals only."""

import re

from caspers_lib.agents.model.excerpts import excerpt
from caspers_lib.errors import SettingsError

__all__ = ["MAX_NAME_CHARS", "checked_endpoint_name"]

MAX_NAME_CHARS = 63
"""A longer name is refused by Model Serving."""

_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME_CHARS}}}")


def checked_endpoint_name(name: str) -> str:
    """The name, if an endpoint can have it.

    Args:
        name: what is or should become a serving endpoint's name.

    Returns:
        The same name: ASCII letters, digits, `-` and `_`, so that it ends no literal.

    Raises:
        SettingsError: no endpoint can have this name.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"The endpoint's name is {excerpt(name)}; it must be 1 to {MAX_NAME_CHARS} letters,"
            " digits, - or _"
        )
    return name
