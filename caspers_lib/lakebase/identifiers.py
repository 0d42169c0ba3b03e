"""Quoting of PostgreSQL identifiers: the one place where a name becomes SQL text."""

from caspers_lib.errors import SyncError

__all__ = ["MAX_IDENTIFIER_BYTES", "qualified", "quote_identifier"]

MAX_IDENTIFIER_BYTES = 63
"""Longest name that PostgreSQL keeps whole; a longer one would be cut without an error."""


def quote_identifier(name: str) -> str:
    """Quote one name so that PostgreSQL takes it literally, whatever characters it holds.

    Args:
        name: a database, schema, table or column name; dots and quotes are part of the name.

    Returns:
        The name in double quotes, inner double quotes doubled.

    Raises:
        SyncError: the name is empty, holds a NUL character, is not valid Unicode, or is longer
            than 63 bytes in UTF-8.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise _refused(name, "it is not valid Unicode") from error
    if not name:
        raise _refused(name, "it is empty")
    if "\0" in name:
        raise _refused(name, "it holds a NUL character")
    if size > MAX_IDENTIFIER_BYTES:
        raise _refused(name, f"it has {size} bytes, at most {MAX_IDENTIFIER_BYTES} are allowed")
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, table: str) -> str:
    """Quote `schema.table`.

    Args:
        schema: the schema's name.
        table: the table's name.

    Returns:
        Both names quoted, joined by a dot.

    Raises:
        SyncError: as `quote_identifier`.
    """
    return f"{quote_identifier(schema)}.{quote_identifier(table)}"


def _refused(name: str, reason: str) -> SyncError:
    return SyncError(
        f"{name!a} can't be a PostgreSQL name: {reason}.",
        hint="Choose a name of 1 to 63 bytes without NUL characters.",
    )
