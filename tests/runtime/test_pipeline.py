"""One update of a small declarative pipeline on the real engine."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pyspark import pipelines as dp
from pyspark.errors import PySparkException

from caspers_lib.errors import PipelineError
from caspers_lib.runtime.pipeline import run_update

pytestmark = pytest.mark.spark


@pytest.fixture
def schema(spark: Any) -> Iterator[str]:
    name = f"pipeline_{uuid4().hex[:8]}"
    spark.sql(f"CREATE SCHEMA {name}")
    yield name
    spark.sql(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def update(spark: Any, schema: str, tmp_path: Path) -> Callable[..., list[str]]:
    """Runs an update and gives the engine's messages."""

    def run(define: Callable[[Any], None], *, full_refresh: bool = False) -> list[str]:
        messages: list[str] = []
        current = spark.catalog.currentDatabase()
        try:
            run_update(
                spark,
                define,
                storage=tmp_path / "check points",
                database=schema,
                full_refresh=full_refresh,
                on_event=messages.append,
            )
        finally:
            assert spark.catalog.currentDatabase() == current, "the session is as it was"
        return messages

    return run


def words(folder: Path) -> Callable[[Any], None]:
    """Tables: the lines of the folder's files as they come in, and how often each is there."""

    def define(spark: Any) -> None:
        dp.table(name="lines")(
            lambda: spark.readStream.format("text").schema("value STRING").load(str(folder))
        )
        dp.materialized_view(name="words")(
            lambda: spark.read.table("lines").groupBy("value").count()
        )

    return define


def test_a_full_refresh_forgets_what_was_read_and_reads_what_is_there(
    spark: Any, schema: str, tmp_path: Path, update: Callable[..., list[str]]
) -> None:
    def rows() -> list[tuple[Any, ...]]:
        return sorted(tuple(row) for row in spark.table(f"{schema}.words").collect())

    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "1.txt").write_text("soup\ntea\n")
    messages = update(words(folder))
    assert rows() == [("soup", 1), ("tea", 1)]
    # The engine reports a flow's end from another thread, perhaps after the run has ended and
    # nobody listens any more; its start and the run's end always arrive.
    assert any(f"{schema}.words" in text and "STARTING" in text for text in messages)
    assert any(text.startswith("Run is COMPLETED") for text in messages)

    (folder / "1.txt").unlink()
    (folder / "2.txt").write_text("soup\n")
    update(words(folder), full_refresh=True)
    assert rows() == [("soup", 1)]


def test_a_flow_that_fails_is_one_line_that_names_it_and_the_others_go_on(
    spark: Any, schema: str, update: Callable[..., list[str]]
) -> None:
    def define(session: Any) -> None:
        dp.materialized_view(name="broken")(
            lambda: session.sql("SELECT CAST(raise_error('two\\nlines') AS INT) AS x")
        )
        dp.materialized_view(name="sound")(lambda: session.range(3))

    with pytest.raises(PipelineError) as failed:
        update(define)
    message = failed.value.message
    assert message.startswith("The pipeline's update failed: ")
    assert f"{schema}.broken" in message
    assert "two" in message
    assert "\n" not in message
    assert isinstance(failed.value.__cause__, PySparkException)
    assert spark.table(f"{schema}.sound").count() == 3


def test_a_graph_that_reads_a_table_that_is_not_there_is_refused_by_its_name(
    spark: Any, schema: str, update: Callable[..., list[str]]
) -> None:
    def define(session: Any) -> None:
        dp.materialized_view(name="reader")(lambda: session.read.table("nowhere"))

    with pytest.raises(PipelineError) as failed:
        update(define)
    assert f"{schema}.reader" in failed.value.message
    assert "nowhere" in failed.value.message
    assert "\n" not in failed.value.message
    assert not spark.catalog.tableExists(f"{schema}.reader")
    # The session serves on.
    assert spark.range(2).count() == 2


def test_a_pipeline_without_a_table_is_refused(update: Callable[..., list[str]]) -> None:
    with pytest.raises(PipelineError, match="at least one"):
        update(lambda _session: None)
