"""What is synced where: the plan of a synced table as frozen data, and the DDL made from it."""

import re
from dataclasses import dataclass

from caspers_lib.errors import SyncError
from caspers_lib.lakebase.identifiers import qualified, quote_identifier

__all__ = ["COMPLAINTS", "POSITIONS_TABLE", "REFUNDS", "SyncColumn", "SyncSpec"]

POSITIONS_TABLE = "sync_positions"
"""Table in the target's schema with one row per synced table: how far it is and its totals."""

_TYPE = re.compile(r"[a-z][a-z0-9_]*( [a-z]+)*(\(\d+(, ?\d+)?\))?")


@dataclass(frozen=True, slots=True)
class SyncColumn:
    """A column of the target.

    Args:
        name: its name, the same in the source and in the target.
        type: its PostgreSQL type in lower case, such as `text`, `jsonb` or `numeric(12,2)`.
    """

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class SyncSpec:
    """The plan of one synced table.

    Args:
        name: short name, also the key of its position.
        source: the Delta table, `schema.table` or `catalog.schema.table`.
        keys: names of the columns that identify a row, a subset of `columns`.
        database: the PostgreSQL database of the target.
        schema: the target's schema.
        table: the target's table.
        columns: every synced column with its PostgreSQL type; other columns of the source stay
            behind.

    Raises:
        SyncError: no key, a key that is no column, a column named twice, or a type that isn't a
            plain PostgreSQL type name.
    """

    name: str
    source: str
    keys: tuple[str, ...]
    database: str
    schema: str
    table: str
    columns: tuple[SyncColumn, ...]

    def __post_init__(self) -> None:
        """Refuse a plan that contradicts itself."""
        names = self.column_names
        missing = [key for key in self.keys if key not in names]
        if not self.keys or missing:
            raise SyncError(
                f"The synced table {self.name!r} needs key columns out of {list(names)}, "
                f"got {list(self.keys)}.",
                hint="Name at least one key that is among the columns.",
            )
        if len(set(names)) < len(names):
            raise SyncError(
                f"The synced table {self.name!r} names a column twice: {list(names)}.",
                hint="Name each column once.",
            )
        for column in self.columns:
            if not _TYPE.fullmatch(column.type):
                raise SyncError(
                    f"Column {column.name!r} of the synced table {self.name!r} has the type "
                    f"{column.type!r}, which is not a plain PostgreSQL type.",
                    hint="Use a lower-case type name such as text, timestamptz or numeric(12,2).",
                )

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of all synced columns, in the target's order."""
        return tuple(column.name for column in self.columns)

    @property
    def target(self) -> str:
        """The target table, quoted."""
        return qualified(self.schema, self.table)

    @property
    def dead_letters(self) -> str:
        """The table of refused changes, quoted."""
        return qualified(self.schema, f"{self.table}_dead_letter")

    @property
    def positions(self) -> str:
        """The table of positions, quoted."""
        return qualified(self.schema, POSITIONS_TABLE)

    @property
    def ddl(self) -> tuple[str, ...]:
        """Statements that create schema, target, dead-letter and position table; idempotent.

        The dead-letter table holds one row per refused change: `commit_version` of the source,
        `raw` (the change's values as a JSON object of texts), `digest` of it, the `reason`.
        """
        columns = ", ".join(f"{quote_identifier(c.name)} {c.type}" for c in self.columns)
        keys = ", ".join(map(quote_identifier, self.keys))
        return (
            f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(self.schema)}",
            f"CREATE TABLE IF NOT EXISTS {self.target} ({columns}, PRIMARY KEY ({keys}))",
            f"CREATE TABLE IF NOT EXISTS {self.dead_letters} ("
            "commit_version bigint, digest text, raw text NOT NULL, reason text NOT NULL, "
            "batch_id bigint NOT NULL, refused_at timestamptz NOT NULL DEFAULT now(), "
            "PRIMARY KEY (commit_version, digest))",
            f"CREATE TABLE IF NOT EXISTS {self.positions} ("
            "spec text PRIMARY KEY, source_id text NOT NULL, "
            "generation uuid NOT NULL DEFAULT gen_random_uuid(), "
            "commit_version bigint NOT NULL DEFAULT -1, batch_id bigint NOT NULL DEFAULT -1, "
            "rows_in bigint NOT NULL DEFAULT 0, written bigint NOT NULL DEFAULT 0, "
            "unchanged bigint NOT NULL DEFAULT 0, deleted bigint NOT NULL DEFAULT 0, "
            "refused bigint NOT NULL DEFAULT 0, applied_at timestamptz)",
        )


REFUNDS = SyncSpec(
    name="refunds",
    source="recommender.refund_recommendations",
    keys=("order_id",),
    database="caspers",
    schema="recommender",
    table="pg_recommendations",
    columns=(
        SyncColumn("order_id", "text"),
        SyncColumn("ts", "timestamptz"),
        SyncColumn("order_ts", "timestamptz"),
        SyncColumn("agent_response", "jsonb"),
    ),
)

COMPLAINTS = SyncSpec(
    name="complaints",
    source="complaints.complaint_responses",
    keys=("complaint_id",),
    database="caspers_complaints",
    schema="complaints",
    table="pg_complaint_responses",
    columns=(
        SyncColumn("complaint_id", "text"),
        SyncColumn("order_id", "text"),
        SyncColumn("ts", "timestamptz"),
        SyncColumn("agent_response", "jsonb"),
    ),
)
