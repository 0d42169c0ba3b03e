"""A batch of the change feed as rows of text, ready for COPY; what PostgreSQL can't hold set aside.

Pure functions over Arrow tables. Everything travels as text, so that PostgreSQL itself parses each
value into the target's type and says what is wrong with it.
"""

import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from caspers_lib.errors import SyncError
from caspers_lib.lakebase.sync_spec import SyncSpec

__all__ = [
    "CHANGE_TYPE",
    "COMMIT_VERSION",
    "MAX_KEY_BYTES",
    "Refusal",
    "StagedBatch",
    "csv_chunks",
    "raw_text",
    "stage",
]

CHANGE_TYPE = "_change_type"
COMMIT_VERSION = "_commit_version"

MAX_KEY_BYTES = 2_000
"""Longest key in UTF-8; a B-tree entry holds about 2,700 bytes."""

_CHUNK_ROWS = 10_000
_CHANGES = ("insert", "update_postimage", "delete")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A change that PostgreSQL can't take.

    Args:
        version: the Delta commit that made the change.
        raw: the change's values, a JSON object of texts.
        reason: one line.
    """

    version: int
    raw: str
    reason: str


@dataclass(frozen=True, slots=True)
class StagedBatch:
    """The part of a batch that is new, as text.

    Args:
        rows: `n` (int64, 0, 1, ...), `deleted` (bool), `version` (int64), then `c0`, `c1`, ...,
            the spec's columns in their order as UTF-8 text in binary columns.
        refused: changes that can't even be sent.
        names: the spec's column names.
    """

    rows: pa.Table
    refused: tuple[Refusal, ...]
    names: tuple[str, ...]

    def refusal(self, n: int, reason: str) -> Refusal:
        """Row `n` as a refused change.

        Args:
            n: the row's number, its value of column `n`.
            reason: why; one line.
        """
        (row,) = self.rows.filter(pc.equal(self.rows["n"], n)).to_pylist()
        values = [row[f"c{i}"] for i in range(len(self.names))]
        return Refusal(row["version"], raw_text(self.names, values), reason)


def stage(changes: pa.Table, spec: SyncSpec, *, since: int) -> StagedBatch:
    """Turn changes into rows of text and set aside those that can't be sent.

    Args:
        changes: the spec's columns, `_change_type` and `_commit_version`; rows in any order.
        spec: the plan.
        since: changes of earlier commits are left out, they are in the target already.

    Returns:
        The rows to copy. Updates' old values (`update_preimage`) are left out; a null or overlong
        key, a NUL character and invalid UTF-8 are refused.

    Raises:
        SyncError: a column is missing or can't be written as text.
    """
    _check_columns(changes, spec)
    wanted = pc.and_(
        pc.is_in(changes[CHANGE_TYPE], value_set=pa.array(_CHANGES)),
        pc.greater_equal(changes[COMMIT_VERSION], since),
    )
    changes = changes.filter(wanted)
    deleted = pc.equal(changes[CHANGE_TYPE], "delete")
    columns = {name: _as_bytes(changes[name], name, spec) for name in spec.column_names}
    for name in set(columns) - set(spec.keys):
        # A deletion needs no more than its key: its old values may be the very ones once refused.
        columns[name] = pc.if_else(deleted, pa.scalar(None, pa.binary()), columns[name])
    rows = pa.table(
        {
            "n": pa.array(range(changes.num_rows), pa.int64()),
            "deleted": deleted,
            "version": changes[COMMIT_VERSION].cast(pa.int64()),
            **{f"c{i}": column for i, column in enumerate(columns.values())},
        }
    )
    reasons = _reasons(columns, spec.keys)
    everything = StagedBatch(rows, (), spec.column_names)
    refused = tuple(everything.refusal(n, reason) for n, reason in sorted(reasons.items()))
    return StagedBatch(_without(rows, reasons), refused, spec.column_names)


def csv_chunks(rows: pa.Table) -> Iterator[bytes]:
    """Rows as CSV for `COPY ... (FORMAT csv)`: null is empty, text is always quoted.

    Args:
        rows: the rows of a `StagedBatch`.

    Yields:
        About ten thousand lines at a time.
    """
    options = csv.WriteOptions(include_header=False, quoting_style="needed")
    for chunk in rows.to_batches(max_chunksize=_CHUNK_ROWS):
        lines = io.BytesIO()
        csv.write_csv(chunk, lines, options)
        yield lines.getvalue()


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


def _check_columns(changes: pa.Table, spec: SyncSpec) -> None:
    wanted = (*spec.column_names, CHANGE_TYPE, COMMIT_VERSION)
    missing = [name for name in wanted if name not in changes.column_names]
    if missing:
        raise SyncError(
            f"The change feed of {spec.source} lacks {missing}; it has {changes.column_names}.",
            hint="Compare the source's columns with the synced table's plan.",
        )


def _as_bytes(column: pa.ChunkedArray, name: str, spec: SyncSpec) -> pa.ChunkedArray:
    try:
        return column.cast(pa.string()).cast(pa.binary())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SyncError(
            f"Column {name!r} of {spec.source} has the type {column.type}, which has no text form.",
            hint="Write it as JSON text in the source (to_json) and sync it as jsonb.",
        ) from error


def _reasons(columns: Mapping[str, pa.ChunkedArray], keys: Sequence[str]) -> dict[int, str]:
    """Why rows can't be sent, by row number; one reason a row."""
    reasons: dict[int, str] = {}
    for name, column in columns.items():
        checks = [
            (pc.match_substring(column, "\0"), "holds a NUL character"),
            (_not_utf8(column), "is not valid UTF-8"),
        ]
        if name in keys:
            too_long = pc.greater(pc.binary_length(column), MAX_KEY_BYTES)
            checks += [
                (pc.is_null(column), "is null, and it is a key"),
                (too_long, f"is a key of more than {MAX_KEY_BYTES} bytes"),
            ]
        for mask, reason in checks:
            for n in pc.indices_nonzero(pc.fill_null(mask, False)).to_pylist():
                reasons.setdefault(n, f"{name} {reason}")
    return reasons


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


def _without(rows: pa.Table, numbers: Collection[int]) -> pa.Table:
    if not numbers:
        return rows
    return rows.filter(pa.array([n not in numbers for n in range(rows.num_rows)]))
