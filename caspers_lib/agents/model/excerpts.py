"""Short, harmless excerpts of texts that others wrote, for messages and tables."""

import json

__all__ = ["excerpt", "redacted"]

MAX_EXCERPT_CHARS = 120
_SHORTEST_SECRET = 4


def excerpt(text: str, limit: int = MAX_EXCERPT_CHARS) -> str:
    """The beginning of a text in quotes, on one line.

    Args:
        text: anything, of any length.
        limit: characters at most, the quotes aside.

    Returns:
        The text with whatever does not print escaped, ending in `…` where it was cut.
    """
    # Only as much is escaped as can be shown: the text may have megabytes.
    escaped = "".join(map(_printed, text[: limit + 1]))
    return f"'{escaped}'" if len(escaped) <= limit else f"'{escaped[: limit - 1]}…'"


def redacted(text: str, secret: str | None) -> str:
    """The text without the secret, should somebody have echoed it.

    Args:
        text: anything.
        secret: what must not be shown; None or a text shorter than 4 characters is no secret.

    Returns:
        The text with `[key]` in place of the secret, plain or escaped as in JSON.
    """
    if secret is None or len(secret) < _SHORTEST_SECRET:
        return text
    for form in {secret, json.dumps(secret)[1:-1]}:
        text = text.replace(form, "[key]")
    return text


def _printed(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
