"""Changes as rows of a staging table; what PostgreSQL can't hold is marked as refused.

Pure functions over Arrow data. Numbers and times cross over in binary; all else travels as text, so
that PostgreSQL itself parses each value and says what is wrong with it.
"""

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from caspers_lib.errors import SyncError
from caspers_lib.lakebase.pg_types import BINARY_TYPES
from caspers_lib.lakebase.sync_plan import SyncPlan

__all__ = [
    "CHANGE_TYPE",
    "COMMIT_TIME",
    "COMMIT_VERSION",
    "MAX_KEY_BYTES",
    "new_changes",
    "raw_text",
    "staged_rows",
    "staging_schema",
]

CHANGE_TYPE = "_change_type"
COMMIT_VERSION = "_commit_version"
COMMIT_TIME = "_commit_timestamp"

MAX_KEY_BYTES = 2_000
"""Longest key in UTF-8; a B-tree entry holds about 2,700 bytes."""

_OLD_IMAGE = "update_preimage"
_NEW_ROWS = ("insert", "update_postimage")
_CHANGES = (*_NEW_ROWS, "delete", _OLD_IMAGE)

# Days and microseconds from 1970 to 4714-11-24 BC, and days to 5874897-12-31.
_FIRST_DAY, _LAST_DAY = -2_440_588, 2_145_031_948
_FIRST_MICROSECOND = _FIRST_DAY * 86_400_000_000


def staged_rows(changes: pa.Table, plan: SyncPlan, *, part: int = 0) -> pa.Table:
    """Changes as rows of a staging table.

    Args:
        changes: the plan's columns, `_change_type` and `_commit_version`; rows in any order.
        plan: the plan.
        part: number of the writer.

    Returns:
        `part`, `deleted`, `old`, `version`, `refusal`, `raw`, then `c0`, `c1`, ... A row with a
        null or overlong key, a NUL character, invalid UTF-8 or a time before PostgreSQL's first has
        its reason in `refusal`, its values in `raw`, and of `c0`, `c1`, ... its key alone, where
        that is sound. An old image with such a key is left out: the target can't have it.

    Raises:
        SyncError: a column can't be sent as the plan says.
    """
    old = pc.equal(changes[CHANGE_TYPE], _OLD_IMAGE)
    deleted = pc.or_(old, pc.equal(changes[CHANGE_TYPE], "delete"))
    columns = {c.name: _sent(changes[c.name], c.name, c.type, plan) for c in plan.columns}
    for name in set(columns) - set(plan.spec.keys):
        # A deletion needs no more than its key: its old values may be the very ones once refused.
        columns[name] = pc.if_else(deleted, pa.scalar(None, columns[name].type), columns[name])
    count = changes.num_rows
    refusal = raw = pa.nulls(count, pa.string())
    if reasons := _reasons(columns, plan.spec.keys):
        refusal = pa.array([reasons.get(n) for n in range(count)], pa.string())
        raw = pa.array(
            [_raw(columns, n) if n in reasons else None for n in range(count)], pa.string()
        )
        columns = _without_refused(columns, reasons, plan.spec.keys)
    schema = staging_schema(plan)
    values = (
        pa.repeat(pa.scalar(part, pa.int32()), count),
        deleted,
        old,
        changes[COMMIT_VERSION],
        refusal,
        raw,
        *columns.values(),
    )
    rows = pa.table(
        [value.cast(field.type) for value, field in zip(values, schema, strict=True)],
        schema=schema,
    )
    return rows.filter(pc.or_(pc.invert(old), pc.is_null(rows["refusal"])))


def raw_text(names: Sequence[str], values: Sequence[bytes | None]) -> str:
    """Values as an ASCII JSON object of texts, with NUL and broken bytes escaped.

    Args:
        names: the columns.
        values: their values as bytes, None for null.
    """
    texts = (
        None if value is None else value.decode("utf-8", "backslashreplace") for value in values
    )
    return json.dumps(dict(zip(names, texts, strict=True)))


def staging_schema(plan: SyncPlan) -> pa.Schema:
    """The columns that are copied into a staging table.

    Args:
        plan: the plan.
    """
    return pa.schema(
        [
            ("part", pa.int32()),
            ("deleted", pa.bool_()),
            ("old", pa.bool_()),
            ("version", pa.int64()),
            ("refusal", pa.string()),
            ("raw", pa.string()),
            *((f"c{i}", BINARY_TYPES.get(c.type, pa.string())) for i, c in enumerate(plan.columns)),
        ]
    )


def new_changes(changes: pa.Table, plan: SyncPlan, since: int) -> pa.Table:
    """Changes of later commits, without the old images of updates that leave the key as it is.

    Args:
        changes: the plan's columns, `_change_type`, `_commit_version` and `_commit_timestamp`.
        plan: the plan.
        since: changes of commits up to this one are left out.

    Raises:
        SyncError: a column is missing.
    """
    names = (*plan.names, CHANGE_TYPE, COMMIT_VERSION, COMMIT_TIME)
    missing = [name for name in names if name not in changes.column_names]
    if missing:
        raise SyncError(
            f"The change feed of {plan.spec.source} lacks {missing}; it has "
            f"{changes.column_names}.",
            hint="Compare the source's columns with the synced table's plan.",
        )
    kinds = pc.is_in(changes[CHANGE_TYPE], value_set=pa.array(_CHANGES))
    new = changes.filter(pc.and_(kinds, pc.greater(changes[COMMIT_VERSION], since)))
    return _without_kept_keys(new, plan.spec.keys)


def _without_kept_keys(changes: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Leave out the old images whose key is written again by the same commit.

    One whose new image is in another batch stays; the transaction that applies it looks again.
    """
    is_old = pc.equal(changes[CHANGE_TYPE], _OLD_IMAGE)
    if not pc.any(is_old).as_py():
        return changes
    columns = [changes[name] for name in (*keys, COMMIT_VERSION)]
    names = [str(number) for number in range(len(columns))]  # Arrow takes some names for paths
    rows = pa.table([*columns, pa.array(range(changes.num_rows))], names=[*names, "row"])
    is_new = pc.is_in(changes[CHANGE_TYPE], value_set=pa.array(_NEW_ROWS))
    left = rows.filter(is_old).join(rows.filter(is_new).select(names), names, join_type="left anti")
    others = rows.filter(pc.invert(is_old))
    return changes.take(pa.concat_tables([others, left.select(others.column_names)])["row"])


def _sent(column: pa.ChunkedArray, name: str, pg_type: str, plan: SyncPlan) -> pa.ChunkedArray:
    """A column as it is sent; text as bytes, since it may be broken."""
    try:
        if pg_type in BINARY_TYPES:
            return column.cast(BINARY_TYPES[pg_type])
        return column.cast(pa.string()).cast(pa.binary())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SyncError(
            f"Column {name!r} of {plan.spec.source} has the type {column.type}, which can't be "
            f"sent as {pg_type}.",
            hint="Write it as JSON text in the source (to_json) and sync it as jsonb.",
        ) from error


def _without_refused(
    columns: Mapping[str, pa.ChunkedArray], reasons: Mapping[int, str], keys: Sequence[str]
) -> dict[str, pa.ChunkedArray]:
    """The columns with nulls where a row is refused; a sound key stays."""
    key_reasons = _reasons({name: columns[name] for name in keys}, keys)
    count = len(next(iter(columns.values())))
    sound = pa.array([n not in reasons for n in range(count)])
    sound_key = pa.array([n not in key_reasons for n in range(count)])
    return {
        name: pc.if_else(sound_key if name in keys else sound, values, pa.scalar(None, values.type))
        for name, values in columns.items()
    }


def _raw(columns: Mapping[str, pa.ChunkedArray], n: int) -> str:
    values = [
        one if pa.types.is_binary(one.type) else one.cast(pa.string()).cast(pa.binary())
        for one in (values.slice(n, 1) for values in columns.values())
    ]
    return raw_text(list(columns), [one[0].as_py() for one in values])


def _reasons(columns: Mapping[str, pa.ChunkedArray], keys: Sequence[str]) -> dict[int, str]:
    """Why rows can't be sent, by row number; one reason a row."""
    reasons: dict[int, str] = {}
    for name, column in columns.items():
        checks = _text_checks(column) if pa.types.is_binary(column.type) else _range_checks(column)
        if name in keys:
            checks.append((pc.is_null(column), "is null, and it is a key"))
            if pa.types.is_binary(column.type):
                too_long = pc.greater(pc.binary_length(column), MAX_KEY_BYTES)
                checks.append((too_long, f"is a key of more than {MAX_KEY_BYTES} bytes"))
        for mask, reason in checks:
            for n in pc.indices_nonzero(pc.fill_null(mask, False)).to_pylist():
                reasons.setdefault(n, f"{name} {reason}")
    return reasons


_Checks = list[tuple[pa.ChunkedArray | pa.Array, str]]


def _text_checks(column: pa.ChunkedArray) -> _Checks:
    return [
        (pc.match_substring(column, "\0"), "holds a NUL character"),
        (_not_utf8(column), "is not valid UTF-8"),
    ]


def _range_checks(column: pa.ChunkedArray) -> _Checks:
    if pa.types.is_date(column.type):
        days = column.cast(pa.int32())
        outside = pc.or_(pc.less(days, _FIRST_DAY), pc.greater(days, _LAST_DAY))
        return [(outside, "is a date outside PostgreSQL's range")]
    if pa.types.is_timestamp(column.type):
        before = pc.less(column.cast(pa.int64()), _FIRST_MICROSECOND)
        return [(before, "is a time outside PostgreSQL's range")]
    return []


def _not_utf8(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    try:
        column.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([not _is_utf8(value) for value in column.to_pylist()])
    return pa.array([], pa.bool_())


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
