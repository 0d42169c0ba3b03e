"""Bronze: every event as it landed, with where it came from.

Nothing is lost on the way in: a field that the schema lacks, or that has another type, is kept in
`_rescued_data`, and so is a line that is not one JSON object in UTF-8.
"""

from typing import TYPE_CHECKING

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.domain.rules import RESCUED
from caspers_lib.errors import PipelineError
from caspers_lib.spark_sql import one_json_value, quote_text

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

__all__ = [
    "NOT_UTF_8",
    "auto_loader_events",
    "bronze_events",
    "direct_events",
    "event_ddl",
    "events_of_lines",
]

NOT_UTF_8 = "not UTF-8: "
"""Stands before the text of a line that is not UTF-8, which is shown as Latin-1."""

_CORRUPT = "_corrupt_record"
# What is in the folder counts, not its files' times: by default a stream leaves out files that are
# a week older than the newest one it has seen. A file that is gone when its turn comes would stop
# the stream for good.
_EVERY_FILE = {
    "maxFileAge": "1000000000d", "recursiveFileLookup": "true", "ignoreMissingFiles": "true"
}  # fmt: skip

_PATTERN = frozenset("{}[]*?\\")


def event_ddl(domain: Domain = GHOST_KITCHEN) -> str:
    """The explicit schema of a landed event, as Spark DDL text."""
    return ", ".join(f"{c.name} {c.type}" for c in domain.event_columns)


def bronze_events(
    spark: "SparkSession",
    path: str,
    domain: Domain = GHOST_KITCHEN,
    *,
    stream: bool = True,
    shown_as: str | None = None,
) -> "DataFrame":
    """Landed event files through Spark's own file source.

    Args:
        spark: the session.
        path: folder of JSON-lines files, UTF-8, compressed ones too, at any depth; names that begin
            with `.` or `_` are not read.
        domain: the business.
        stream: a stream of the files as they come in, or what is there now.
        shown_as: what `source_file` says in place of `path`, percent-encoded; itself if None.

    Returns:
        The columns of `all_events`; an empty line is no row.

    Raises:
        PipelineError: the path has a character that Spark takes for a pattern.
    """
    if not _PATTERN.isdisjoint(path):
        # A stream would find nothing, without an error.
        raise PipelineError(
            f"The folder of the events is {path!r}; Spark takes each of "
            f"{' '.join(sorted(_PATTERN))} in a path for a pattern",
            hint="give a link to it whose name has none of them",
        )
    reader = spark.readStream if stream else spark.read
    # Lines, not parsed JSON: Spark's JSON source leaves out what its schema doesn't name.
    lines = reader.format("text").options(**_EVERY_FILE).load(path)
    source = "_metadata.file_path"
    if shown_as is not None:
        source = f"replace({source}, {quote_text(path)}, {quote_text(shown_as)})"
    return events_of_lines(lines, source, domain)


def auto_loader_events(
    spark: "SparkSession", path: str, domain: Domain = GHOST_KITCHEN
) -> "DataFrame":
    """Landed event files through Databricks Auto Loader, read line by line as `bronze_events` does.

    Args:
        spark: the session.
        path: folder of JSON-lines files.
        domain: the business.
    """
    lines = (
        spark.readStream.format("cloudFiles")
        .option("cloudFiles.format", "text")
        .schema("value STRING")
        .load(path)
    )
    return events_of_lines(lines, "_metadata.file_path", domain)


def direct_events(events: "DataFrame", source: str, domain: Domain = GHOST_KITCHEN) -> "DataFrame":
    """Events that were written to a Delta table instead of files, as columns of `all_events`.

    Args:
        events: rows with the seven event columns, batch or streaming.
        source: what `source_file` says of them, such as the table's name.
        domain: the business.
    """
    from pyspark.sql import functions as F

    return events.select(
        *[F.col(c.name).cast(c.type).alias(c.name) for c in domain.event_columns],
        F.lit(None).cast("STRING").alias(RESCUED),
        F.lit(source).alias("source_file"),
        F.current_timestamp().alias("ingest_ts"),
    )


def events_of_lines(lines: "DataFrame", source: str, domain: Domain = GHOST_KITCHEN) -> "DataFrame":
    """JSON texts as columns of `all_events`.

    Args:
        lines: rows with a column `value`, a text each; batch or streaming.
        source: SQL of `source_file`.
        domain: the business.
    """
    from pyspark.sql import functions as F

    fields = [c.name for c in domain.event_columns]
    parsed = F.from_json(
        "value",
        f"{event_ddl(domain)}, {_CORRUPT} STRING",
        {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": _CORRUPT},
    )
    # A byte order mark stands before each file that was appended to another. A line that is not
    # UTF-8 is kept with a character for each byte, so that none is lost.
    text = F.when(F.is_valid_utf8("value"), F.btrim("value", F.lit(" \t\r\ufeff"))).otherwise(
        F.concat(F.lit(NOT_UTF_8), F.decode(F.col("value").cast("binary"), "ISO-8859-1"))
    )
    texts = lines.select(text.alias("value"), F.expr(source).alias("source_file"))
    is_one_value = F.expr(one_json_value("value"))
    seen = texts.where(F.col("value") != "").select(
        "value",
        "source_file",
        F.current_timestamp().alias("ingest_ts"),
        F.when(is_one_value, F.json_object_keys("value")).alias("keys"),
        parsed.alias("event"),
    )
    known = F.array(*map(F.lit, fields))
    fits = F.col(f"event.{_CORRUPT}").isNull() & (F.size(F.array_except("keys", known)) == 0)
    # A text too long for the parser has keys and no fields: then all of it is rescued.
    misfits = F.coalesce(_misfits(domain), F.col("value"))
    rescued = F.when(F.col("keys").isNull(), F.col("value")).when(~fits, misfits)
    return seen.select(
        *[F.when(F.col("keys").isNotNull(), F.col(f"event.{f}")).alias(f) for f in fields],
        rescued.alias(RESCUED),
        "source_file",
        "ingest_ts",
    )


def _misfits(domain: Domain) -> "Column":
    """The fields of a JSON object that the schema lacks or that have another type, as JSON."""
    from pyspark.sql import functions as F

    cases = " ".join(
        f"WHEN {quote_text(c.name)} THEN event.{c.name} IS NULL" for c in domain.event_columns
    )
    return F.expr(
        "to_json(map_filter(from_json(value, 'MAP<STRING, STRING>'), "
        f"(name, text) -> CASE name {cases} ELSE true END AND (text IS NOT NULL)))"
    )
