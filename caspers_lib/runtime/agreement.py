"""The counts that must agree when a round has ended, counted apart from one another."""

from dataclasses import dataclass
from pathlib import Path

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.runtime.catalog import delta_files
from caspers_lib.runtime.status import DemoStatus

__all__ = ["Agreement", "agreements"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of one thing in several places.

    Args:
        what: the thing.
        counts: rows by place; None where the place does not exist.
    """

    what: str
    counts: dict[str, int | None]

    @property
    def holds(self) -> bool:
        """True where every place has the same count."""
        return len(set(self.counts.values())) == 1

    def line(self) -> str:
        """One line for people."""
        counts = [
            f"{place} {'-' if count is None else f'{count:,}'}"
            for place, count in self.counts.items()
        ]
        return f"{self.what}: " + (" = " if self.holds else ", ").join(counts)


def agreements(status: DemoStatus, domain: Domain = GHOST_KITCHEN) -> tuple[Agreement, ...]:
    """What must agree after a round: events, orders, delivered orders and complaints.

    Args:
        status: the state of a ROOT.
        domain: names the opening and the closing event.

    Returns:
        None of them while there is no bronze table.
    """
    tables = {name: place.rows for name, place in status.tables.items()}
    bronze = f"lakeflow.{domain.bronze}"
    if bronze not in tables:
        return ()
    aside = status.tables.get(f"lakeflow.{domain.quarantine}")
    entities = _entities_by_event(
        Path(status.tables[bronze].path), Path(aside.path) if aside else None, domain
    )
    return (
        Agreement("events", {"in files": status.events.rows, bronze: tables[bronze]}),
        Agreement(
            "orders",
            {
                domain.opening: entities.get(domain.opening, 0),
                "lakeflow.gold_order_header": tables.get("lakeflow.gold_order_header"),
            },
        ),
        Agreement(
            "delivered orders",
            {
                domain.closing: entities.get(domain.closing, 0),
                "recommendations in Delta": tables.get("recommender.refund_recommendations"),
                "in Postgres": status.postgres["refunds"].rows,
            },
        ),
        Agreement(
            "complaints",
            {
                "written": tables.get("complaints.raw_complaints"),
                "answered in Delta": tables.get("complaints.complaint_responses"),
                "in Postgres": status.postgres["complaints"].rows,
            },
        ),
    )


def _entities_by_event(bronze: Path, quarantine: Path | None, domain: Domain) -> dict[str, int]:
    """Distinct entities with an opening and with a closing event, straight from the parquet.

    Events that were set aside don't count.
    """
    import duckdb

    files = delta_files(bronze)
    aside = [] if quarantine is None else delta_files(quarantine)
    if not files:
        return {}
    set_aside = "SELECT event_id FROM read_parquet(?) WHERE event_id IS NOT NULL"
    query = (
        f"SELECT event_type, count(DISTINCT {domain.entity_key}) FROM read_parquet(?) "  # noqa: S608
        f"WHERE event_type IN (?, ?) {f'AND event_id NOT IN ({set_aside})' if aside else ''} "
        "GROUP BY event_type"
    )
    values = [files, domain.opening, domain.closing, *([aside] if aside else [])]
    with duckdb.connect() as connection:
        return dict(connection.execute(query, values).fetchall())
