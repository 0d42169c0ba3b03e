"""Views for people: ids with their names, ids that no dimension knows, and the reconciliation.

Contract: docs/contracts.md, Tables. Views are plain SQL over the tables; a dimension that is not
there costs its names, nothing else.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

from caspers_lib.domain import GHOST_KITCHEN, Domain, Reference, Table, domain_tables
from caspers_lib.medallion.reconciliation import reconciliation_sql
from caspers_lib.spark_sql import quote_name, quote_text

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["create_views", "view_queries"]


def view_queries(
    schema: str, dimensions: str, present: Collection[str], domain: Domain = GHOST_KITCHEN
) -> dict[str, str]:
    """Each view's query by its name.

    <table>_named       a table with a name beside each id, for every table that has ids
    unknown_ids         ids in the line items that their dimension lacks (a warning: rows stay)
    reconciliation      rows in = out + quarantined + dropped, per file, with counts by rule

    Args:
        schema: schema of the pipeline's tables, with its catalog where there is one.
        dimensions: schema of the dimensions.
        present: dimensions that are there; columns of others get no name.
        domain: the business.
    """
    known = [r for r in domain.references if r.dimension in present]
    queries = {}
    for table in domain_tables(domain)[2:]:
        named = [r for r in known if r.column in {c.name for c in table.columns}]
        if named:
            queries[f"{table.name}_named"] = _named(table, named, schema, dimensions)
    items = {c.name for c in domain.line_items.columns} | {domain.site_key}
    checked = [r for r in known if r.column in items]
    if checked:
        lines = _in(schema, domain.line_items.table)
        queries["unknown_ids"] = " UNION ALL ".join(_unknown(r, lines, dimensions) for r in checked)
    queries["reconciliation"] = reconciliation_sql(
        _in(schema, domain.bronze), _in(schema, domain.quarantine), domain
    )
    return queries


def create_views(
    spark: "SparkSession", schema: str, dimensions: str, domain: Domain = GHOST_KITCHEN
) -> tuple[str, ...]:
    """Create or replace the views in `schema`; returns their names.

    Args:
        spark: the session; the pipeline's tables exist.
        schema: schema of the pipeline's tables, with its catalog where there is one.
        dimensions: schema of the dimensions; those that are not there are left out.
        domain: the business.
    """
    wanted = {r.dimension for r in domain.references}
    present = {name for name in wanted if spark.catalog.tableExists(_in(dimensions, name))}
    queries = view_queries(schema, dimensions, present, domain)
    for name, query in queries.items():
        spark.sql(f"CREATE OR REPLACE VIEW {_in(schema, name)} AS {query}")
    return tuple(queries)


def _named(table: Table, references: list[Reference], schema: str, dimensions: str) -> str:
    joins, names = [], []
    for reference in references:
        side = quote_name(reference.dimension)
        names.append(
            f"{side}.{quote_name(reference.label)} AS "
            f"{quote_name(reference.column.removesuffix('_id') + '_label')}"
        )
        joins.append(
            f"LEFT JOIN {_in(dimensions, reference.dimension)} AS {side} "
            f"ON t.{quote_name(reference.column)} = {side}.{quote_name(reference.key)}"
        )
    return (
        f"SELECT t.*, {', '.join(names)} "  # noqa: S608 - names are quoted
        f"FROM {_in(schema, table.name)} AS t {' '.join(joins)}"
    )


def _unknown(reference: Reference, lines: str, dimensions: str) -> str:
    column, key = quote_name(reference.column), quote_name(reference.key)
    return (
        f"SELECT {quote_text(reference.column)} AS column_name, {column} AS id, "  # noqa: S608
        f"count(*) AS rows FROM {lines} AS t LEFT ANTI JOIN "
        f"{_in(dimensions, reference.dimension)} AS d ON t.{column} = d.{key} GROUP BY {column}"
    )


def _in(schema: str, name: str) -> str:
    return quote_name(*schema.split("."), name)
