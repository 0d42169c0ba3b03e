"""What is synced where: a synced table as frozen data.

The same spec is synced by this library (`change_feed.run_sync`) or by
Databricks (`managed.create_synced_table`).
"""

from dataclasses import dataclass
from typing import Literal

from caspers_lib.errors import SyncError
from caspers_lib.lakebase.identifiers import qualified
from caspers_lib.spark_sql import quote_name

__all__ = ["POSITIONS_TABLE", "SyncMode", "SyncSpec"]

SyncMode = Literal["continuous", "triggered", "snapshot"]
"""How a table is kept: by a stream that stays, by one that ends when it has caught up, or whole."""

POSITIONS_TABLE = "sync_positions"
"""Table in the target's schema with one row per synced table: how far it is and its totals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSpec:
    """One synced table.

    Args:
        name: short name, also the key of its position.
        source: the Delta table, `schema.table` or `catalog.schema.table`.
        keys: names of the columns that identify a row.
        database: the PostgreSQL database of the target.
        schema: the target's schema.
        table: the target's table.
        mode: how it is kept; `continuous` and `triggered` need the source's change data feed.
        newest_by: the column that breaks ties: of rows with one key in one commit, the one with
            its greatest value counts.
        columns: names of the synced columns; all of the source if empty.
        jsonb: columns whose text is JSON and becomes `jsonb`.
        indexes: groups of columns that the target has an index on.

    Raises:
        SyncError: no key, a name that says nothing or twice the same, or an unknown mode.
    """

    name: str
    source: str
    keys: tuple[str, ...]
    database: str
    schema: str
    table: str
    mode: SyncMode = "triggered"
    newest_by: str | None = None
    columns: tuple[str, ...] = ()
    jsonb: tuple[str, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        """Refuse a spec that contradicts itself."""
        if self.mode not in ("continuous", "triggered", "snapshot"):
            raise SyncError(
                f"The synced table {self.name!r} has the mode {self.mode!r}.",
                hint="Allowed are continuous, triggered and snapshot.",
            )
        if not 2 <= len([part for part in self.source.split(".") if part]) <= 3:
            raise SyncError(
                f"The synced table {self.name!r} has the source {self.source!r}.",
                hint="Write it as schema.table or catalog.schema.table.",
            )
        if not self.keys:
            raise SyncError(
                f"The synced table {self.name!r} has no key.",
                hint="Name the columns that identify a row.",
            )
        for what in ("keys", "columns", "jsonb"):
            names = getattr(self, what)
            if len(set(names)) < len(names):
                raise SyncError(
                    f"The synced table {self.name!r} names a column twice in {what}: "
                    f"{list(names)}.",
                    hint="Name each column once.",
                )

    @property
    def source_name(self) -> str:
        """The Delta table, quoted for Spark."""
        return quote_name(*self.source.split("."))

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
