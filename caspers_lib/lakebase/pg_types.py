"""PostgreSQL's type for each Spark type, and the Spark expression whose value crosses over.

Contract: docs/contracts.md, Sync and console, "types mapped". What has no binary form of its own
travels as text and PostgreSQL parses it, so a value that a type can't hold is refused by the
server, never bent.
"""

import re
from dataclasses import dataclass

import pyarrow as pa

from caspers_lib.errors import SyncError
from caspers_lib.spark_sql import quote_name

__all__ = ["BINARY_TYPES", "PgType", "postgres_type", "widens"]

_SCALARS = {
    "boolean": "boolean",
    "tinyint": "smallint",
    "smallint": "smallint",
    "int": "integer",
    "bigint": "bigint",
    "float": "real",
    "double": "double precision",
    "string": "text",
    "date": "date",
    "timestamp": "timestamp with time zone",
    "timestamp_ntz": "timestamp without time zone",
}
BINARY_TYPES = {
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "date": pa.date32(),
    "timestamp with time zone": pa.timestamp("us", "UTC"),
    "timestamp without time zone": pa.timestamp("us"),
}
"""PostgreSQL types whose values cross over in binary; all others travel as text."""

_DECIMAL = re.compile(r"decimal\((\d+),\s*(-?\d+)\)")
_NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")
_TEXT = re.compile(r"(string collate .+|varchar\(\d+\)|char\(\d+\))")
_NESTED = ("array<", "map<", "struct<")
_WIDENINGS = {
    "smallint": ("integer", "bigint"),
    "integer": ("bigint",),
    "real": ("double precision",),
}


@dataclass(frozen=True, slots=True)
class PgType:
    """How a column crosses over.

    Args:
        name: the PostgreSQL type, as `format_type` spells it.
        expression: Spark SQL that yields the value that is sent.
    """

    name: str
    expression: str


def postgres_type(column: str, spark_type: str, *, json: bool = False) -> PgType:
    """The PostgreSQL type of a column.

    Args:
        column: its name.
        spark_type: its Spark type in the short form, such as `decimal(12,2)` or `array<int>`.
        json: the column is text that holds JSON and becomes `jsonb`.

    Returns:
        Type and expression. Arrays, maps, structs and variants become `jsonb`.

    Raises:
        SyncError: PostgreSQL has no such type, or `json` is asked of a column that isn't text.
    """
    spark_type, name = spark_type.lower(), quote_name(column)
    is_text = spark_type == "string" or bool(_TEXT.fullmatch(spark_type))
    if json and not is_text:
        raise SyncError(
            f"Column {column!r} has the type {spark_type} and can't be read as JSON text.",
            hint="Leave it out of jsonb; arrays, maps and structs become jsonb by themselves.",
        )
    if is_text:
        return PgType("jsonb" if json else "text", name)
    if spark_type in _SCALARS:
        return PgType(_SCALARS[spark_type], name)
    if decimal := _DECIMAL.fullmatch(spark_type):
        return PgType(f"numeric({decimal[1]},{decimal[2]})", name)
    if spark_type == "binary":
        return PgType("bytea", f"'\\\\x' || hex({name})")
    if spark_type.startswith(_NESTED):
        return PgType("jsonb", f"to_json({name}, map('ignoreNullFields', 'false'))")
    if spark_type == "variant":
        return PgType("jsonb", f"to_json({name})")
    raise SyncError(
        f"Column {column!r} has the type {spark_type}, for which PostgreSQL has none.",
        hint="Cast it in the source, or name the other columns in the plan.",
    )


def widens(old: str, new: str) -> bool:
    """Whether every value of one PostgreSQL type is also one of another, wider type.

    Args:
        old: the type that is there, as `format_type` spells it.
        new: the type that is wanted.
    """
    if new in _WIDENINGS.get(old, ()):
        return True
    before, after = _NUMERIC.fullmatch(old), _NUMERIC.fullmatch(new)
    if not before or not after or old == new:
        return False
    more_places = int(after[2]) - int(before[2])
    return more_places >= 0 and int(after[1]) - int(before[1]) >= more_places
