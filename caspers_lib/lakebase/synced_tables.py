"""The synced tables of a business: the agents' answers, and what the console needs beside them.

Contract: docs/contracts.md, Sync and console. A page reads nothing but PostgreSQL, so whatever it
shows is here.
"""

from dataclasses import replace

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.domain.tables import lifecycle_table, line_items_table
from caspers_lib.lakebase.sync_spec import SyncSpec

__all__ = ["COMPLAINTS", "COMPLAINT_TEXTS", "REFUNDS", "agent_tables", "order_tables"]

REFUNDS = SyncSpec(
    name="refunds",
    source="recommender.refund_recommendations",
    keys=("order_id",),
    database="caspers",
    schema="recommender",
    table="pg_recommendations",
    jsonb=("agent_response",),
)

COMPLAINTS = SyncSpec(
    name="complaints",
    source="complaints.complaint_responses",
    keys=("complaint_id",),
    database="caspers_complaints",
    schema="complaints",
    table="pg_complaint_responses",
    jsonb=("agent_response",),
)

COMPLAINT_TEXTS = SyncSpec(
    name="complaint_texts",
    source="complaints.raw_complaints",
    keys=("complaint_id",),
    database=COMPLAINTS.database,
    schema="complaints",
    table="pg_raw_complaints",
    indexes=(("order_id",),),
)


def agent_tables() -> tuple[SyncSpec, ...]:
    """The answers of the agents, and the complaints that they answer."""
    return REFUNDS, COMPLAINTS, COMPLAINT_TEXTS


def order_tables(
    domain: Domain = GHOST_KITCHEN,
    *,
    schema: str = "lakeflow",
    dimensions: str = "simulator",
    catalog: str | None = None,
) -> tuple[SyncSpec, ...]:
    """What is known of an order: header, lifecycle, lines, events with route and pings, and names.

    Args:
        domain: the business.
        schema: the schema of its tables.
        dimensions: the schema of its dimension tables.
        catalog: the catalog of both; None for the session's own.
    """
    order, day = domain.entity_key, domain.day_column
    prefix = f"{catalog}." if catalog else ""

    def spec(name: str, table: str, *keys: str, source: str = schema) -> SyncSpec:
        return SyncSpec(
            name=name,
            source=f"{prefix}{source}.{table}",
            keys=keys,
            database=REFUNDS.database,
            schema=source,
            table=f"pg_{table}",
        )

    headers = (table.name for table in domain.gold if [k.name for k in table.keys] == [order])
    lifecycle, lines = lifecycle_table(domain), line_items_table(domain)
    events = spec("events", domain.bronze, "event_id")
    places = {r.dimension: r.key for r in domain.references}
    return (
        *(spec("orders", header, order) for header in headers),
        replace(spec("lifecycle", lifecycle.name, *lifecycle.key), indexes=((day,),)),
        spec("lines", lines.name, *lines.key),
        replace(events, jsonb=("body",), newest_by="ingest_ts", indexes=((order,),)),
        *(
            replace(spec(name, name, key, source=dimensions), mode="snapshot")
            for name, key in places.items()
        ),
    )
