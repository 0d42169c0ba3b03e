"""One update of a declarative pipeline, in this process, on a Spark Connect session."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any, cast

from caspers_lib.errors import PipelineError, first_cause
from caspers_lib.spark_paths import plain_folder

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["run_update"]


def run_update(
    spark: "SparkSession",
    define: Callable[["SparkSession"], None],
    *,
    storage: Path,
    database: str,
    full_refresh: bool = False,
    on_event: Callable[[str], None] = lambda _message: None,
) -> None:
    """Run the pipeline's flows once over what is new, and wait for the end.

    Args:
        spark: a Spark Connect session; its database exists.
        define: declares the tables with `pyspark.pipelines` decorators.
        storage: folder of the streaming tables' checkpoints.
        database: schema of the tables.
        full_refresh: recompute everything from the sources.
        on_event: receives each message of the engine.

    Raises:
        PipelineError: the graph is refused or a flow fails.
    """
    from pyspark.errors import PySparkException
    from pyspark.pipelines.spark_connect_pipeline import start_run

    failure = ""
    try:
        with _same_schema(spark):
            graph = _define_graph(spark, define, database)
            with _known_results_only(spark.client):
                for result in start_run(
                    spark,
                    graph,
                    full_refresh=[],
                    full_refresh_all=full_refresh,
                    refresh=[],
                    dry=False,
                    # Spark 4.2.0 percent-encodes the path and then takes that for a path.
                    storage=f"file://{plain_folder(storage)}",
                ):
                    if "pipeline_event_result" in result:
                        message = result["pipeline_event_result"].event.message
                        failure = failure or _flow_failure(message)
                        on_event(message)
    except PySparkException as error:
        reason = failure or first_cause(error)
        raise PipelineError(f"The pipeline's update failed: {reason}") from error


def _flow_failure(message: str) -> str:
    """Which flow failed and why, in one line; empty where the engine reports something else.

    Only these events name the flow. Each error that led to the next begins a line with its class in
    brackets; the last one is the cause.
    """
    flow, _, reason = message.partition("\nError: ")
    if not reason.strip():
        return ""
    classes = [line for line in reason.splitlines() if line.startswith("[")]
    return f"{flow.rstrip('.')}: {first_cause(classes[-1] if classes else reason)}"


def _define_graph(
    spark: "SparkSession", define: Callable[["SparkSession"], None], database: str
) -> str:
    from pyspark.pipelines.add_pipeline_analysis_context import add_pipeline_analysis_context
    from pyspark.pipelines.block_session_mutations import block_session_mutations
    from pyspark.pipelines.graph_element_registry import graph_element_registration_context
    from pyspark.pipelines.spark_connect_graph_element_registry import (
        SparkConnectGraphElementRegistry,
    )
    from pyspark.pipelines.spark_connect_pipeline import create_dataflow_graph

    graph: str = create_dataflow_graph(
        spark, default_catalog=None, default_database=database, sql_conf={}
    )
    with (
        graph_element_registration_context(SparkConnectGraphElementRegistry(spark, graph)),
        add_pipeline_analysis_context(spark=spark, dataflow_graph_id=graph, flow_name=None),
        block_session_mutations(),
    ):
        define(spark)
    return graph


@contextmanager
def _same_schema(spark: "SparkSession") -> Iterator[None]:
    """Leave the session's current schema as it was; an update makes it that of its tables."""
    schema = spark.catalog.currentDatabase()
    try:
        yield
    finally:
        if spark.catalog.currentDatabase() != schema:
            spark.catalog.setCurrentDatabase(schema)


@contextmanager
def _known_results_only(client: Any) -> Iterator[None]:  # noqa: ANN401 - a private method is replaced
    """Drop result objects that the engine's command loop in 4.2.0 doesn't know.

    Python workers emit observed metrics, on which `start_run` would fail. Other threads that use
    the same client go on as before.
    """
    fetch = client._execute_and_fetch_as_iterator
    mine = get_ident()

    def known(*args: object, **options: object) -> Iterator[object]:
        results = fetch(*args, **options)
        if get_ident() != mine:
            return cast("Iterator[object]", results)
        return (result for result in results if isinstance(result, dict))

    client._execute_and_fetch_as_iterator = known
    try:
        yield
    finally:
        del client._execute_and_fetch_as_iterator
