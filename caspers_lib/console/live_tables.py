"""The pipeline's tables, where they are made and in Postgres: how many rows, and how fresh."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg import Connection

from caspers_lib.console.source import TableStatus
from caspers_lib.lakebase import SyncSpec
from caspers_lib.lakebase.identifiers import qualified
from caspers_lib.lakebase.sync_spec import POSITIONS_TABLE

__all__ = ["SyncedTable", "TableLine", "synced_tables", "table_lines"]


@dataclass(frozen=True, slots=True)
class SyncedTable:
    """A synced table in Postgres.

    Args:
        source: the table it is synced from, `schema.table`.
        rows: about how many rows, as Postgres' statistics know it; None where it isn't there.
        age_seconds: since a sync last changed it, wall clock; None where that is not known.
    """

    source: str
    rows: int | None = None
    age_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TableLine:
    """A table as the page lists it.

    Args:
        name: `schema.table`.
        made: where it is made; None in a console that stands alone.
        synced: in Postgres; None where it is not brought there.
    """

    name: str
    made: TableStatus | None = None
    synced: SyncedTable | None = None


_ROWS = """
    SELECT CASE WHEN class.oid IS NOT NULL
                THEN greatest(live.n_live_tup, class.reltuples, 0)::bigint END
    FROM unnest(%s::text[]) WITH ORDINALITY AS wanted (name, place)
    LEFT JOIN pg_class AS class ON class.oid = to_regclass(wanted.name)
    LEFT JOIN pg_stat_user_tables AS live ON live.relid = class.oid
    ORDER BY wanted.place
"""

_AGES = """
    SELECT spec, extract(epoch FROM clock_timestamp() - applied_at)::float8
    FROM {positions} WHERE applied_at IS NOT NULL
"""


def synced_tables(connection: Connection, specs: Sequence[SyncSpec]) -> tuple[SyncedTable, ...]:
    """What Postgres knows of its synced tables, in their order.

    Args:
        connection: to the database of all of `specs`.
        specs: the synced tables.

    Raises:
        psycopg.Error: Postgres can't answer.
    """
    found = connection.execute(_ROWS, ([spec.target for spec in specs],)).fetchall()
    there = [rows for (rows,) in found]
    ages = _ages(connection, {spec.schema for spec in specs})
    return tuple(
        SyncedTable(_short(spec.source), rows, ages.get((spec.schema, spec.name)))
        for spec, rows in zip(specs, there, strict=True)
    )


def table_lines(
    made: Iterable[TableStatus], synced: Iterable[SyncedTable]
) -> tuple[TableLine, ...]:
    """The tables of both sides by name: those that are made first, in their order.

    Args:
        made: the pipeline's tables.
        synced: the tables in Postgres.
    """
    here, there = {t.name: t for t in made}, {t.source: t for t in synced}
    names = dict.fromkeys((*here, *there))
    return tuple(TableLine(name, here.get(name), there.get(name)) for name in names)


def _ages(connection: Connection, schemas: set[str]) -> dict[tuple[str, str], float]:
    ages: dict[tuple[str, str], float] = {}
    for schema in sorted(schemas):
        positions = qualified(schema, POSITIONS_TABLE)
        # A table that the platform syncs has none.
        [(there,)] = connection.execute(
            "SELECT to_regclass(%s) IS NOT NULL", (positions,)
        ).fetchall()
        if there:
            query = _AGES.format(positions=positions)
            ages |= {(schema, n): age for n, age in connection.execute(query.encode()).fetchall()}
    return ages


def _short(source: str) -> str:
    return ".".join(source.split(".")[-2:])
