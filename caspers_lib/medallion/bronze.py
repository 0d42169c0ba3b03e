"""Bronze: every event as it landed, with where it came from.

Contract: DESIGN section 6, table `all_events`.
"""

from typing import TYPE_CHECKING

from caspers_lib.domain import GHOST_KITCHEN, Domain

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["RESCUED", "event_ddl", "json_event_stream", "with_provenance"]

RESCUED = "_rescued_data"


def event_ddl(domain: Domain = GHOST_KITCHEN) -> str:
    """The explicit schema of a landed event, as Spark DDL text."""
    fields = ", ".join(f"{c.name} {c.type}" for c in domain.event_columns)
    return f"{fields}, {RESCUED} STRING"


def json_event_stream(
    spark: "SparkSession", path: str, domain: Domain = GHOST_KITCHEN
) -> "DataFrame":
    """Landed event files as a stream, read with the explicit schema.

    A line that is not such an event keeps its text in `_rescued_data`.

    Args:
        spark: the session.
        path: folder of JSON-lines files; names that begin with `.` or `_` are not read.
        domain: the business.
    """
    return (
        spark.readStream.format("json")
        .schema(event_ddl(domain))
        .option("mode", "PERMISSIVE")
        .option("columnNameOfCorruptRecord", RESCUED)
        .load(path)
    )


def with_provenance(raw: "DataFrame", domain: Domain = GHOST_KITCHEN) -> "DataFrame":
    """Landed events with `source_file` and `ingest_ts`, the columns of `all_events`.

    Args:
        raw: rows of a file source, `event_ddl` columns plus the hidden `_metadata`.
        domain: the business.
    """
    from pyspark.sql import functions as F

    return raw.select(
        *[c.name for c in domain.event_columns],
        RESCUED,
        F.col("_metadata.file_path").alias("source_file"),
        F.current_timestamp().alias("ingest_ts"),
    )
