"""Names and texts inside Spark SQL, quoted in one place."""

__all__ = ["quote_name", "quote_text"]


def quote_name(*parts: str) -> str:
    """An identifier such as `schema`.`table`, each part quoted.

    Args:
        parts: the name's parts, outermost first.
    """
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


def quote_text(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
