"""Views for people over a few rows, and what is left out where a dimension is missing."""

import json
from typing import Any

import pytest

from caspers_lib.domain import GHOST_KITCHEN, domain_tables
from caspers_lib.medallion.bronze import events_of_lines
from caspers_lib.medallion.quality import quarantined_events
from caspers_lib.medallion.silver import silver_order_items
from caspers_lib.medallion.views import create_views, view_queries
from caspers_lib.testing import ITEM
from caspers_lib.testing import order_created as created

HOSTILE = 'Böb\'s "Soup"; DROP TABLE x; <script>'


def lines() -> list[tuple[str]]:
    events = []
    for number, brand in enumerate((4, 4, 99)):
        events.append(created(f"e{number}", ITEM | {"brand_id": brand}, order_id=f"O{number}"))
    return [(json.dumps(event),) for event in events] + [("broken",)]


@pytest.mark.spark
def test_people_read_names_beside_ids_and_see_what_is_unknown(spark: Any, schema: str) -> None:
    bronze = events_of_lines(spark.createDataFrame(lines(), "value STRING"), "'f.json'")
    bronze.write.saveAsTable(f"{schema}.all_events")
    for table in domain_tables(GHOST_KITCHEN)[1:]:
        spark.sql(f"CREATE TABLE {schema}.{table.name} ({table.ddl}) USING delta")
    quarantined_events(bronze).write.insertInto(f"{schema}.quarantined_events")
    silver_order_items(bronze).write.insertInto(f"{schema}.silver_order_items")
    brands = spark.createDataFrame([(4, HOSTILE)], "brand_id INT, name STRING")
    brands.write.saveAsTable(f"{schema}.brands")

    names = create_views(spark, schema, schema)
    assert {"silver_order_items_named", "gold_brand_sales_day_named", "reconciliation"} < set(names)
    # No location is known here, so nothing is joined to it.
    assert "gold_location_sales_hourly_named" not in names
    named = spark.table(f"{schema}.silver_order_items_named").orderBy("order_id").collect()
    assert [row.brand_label for row in named] == [HOSTILE, HOSTILE, None]
    unknown = spark.table(f"{schema}.unknown_ids").collect()
    assert [tuple(row) for row in unknown] == [("brand_id", 99, 1)]
    (row,) = spark.table(f"{schema}.reconciliation").collect()
    assert (row.rows_in, row.rows_out, row.rows_quarantined) == (4, 3, 1)


def test_without_any_dimension_only_the_reconciliation_is_left() -> None:
    assert set(view_queries("lakeflow", "simulator", ())) == {"reconciliation"}


def test_names_are_quoted() -> None:
    query = view_queries("cat.lake`flow", "cat.sim", ("brands",))["gold_brand_sales_day_named"]
    assert "`cat`.`lake``flow`.`gold_brand_sales_day`" in query
    assert "`cat`.`sim`.`brands`" in query
