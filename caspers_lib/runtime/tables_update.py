"""One update of every table on the local engine: bronze, silver, then lifecycle and gold.

Bronze and silver are streaming tables of the declarative pipeline, a
graph a layer; what is derived from them is kept by `update_derived_tables`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from caspers_lib.medallion.incremental import DerivedUpdate, update_derived_tables
from caspers_lib.medallion.positions import PositionsFile
from caspers_lib.medallion.registration import PipelineSettings, register_pipeline
from caspers_lib.runtime.event_folder import read_despite_bad_files, why_unreadable
from caspers_lib.runtime.pipeline import run_update

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["update_streaming_tables", "update_tables"]


def update_tables(
    spark: "SparkSession",
    settings: PipelineSettings,
    *,
    storage: Path,
    database: str = "lakeflow",
    full_refresh: bool = False,
    on_event: Callable[[str], None] = lambda _message: None,
) -> tuple[DerivedUpdate, ...]:
    """Take what is new through every table, once.

    Args:
        spark: a Spark Connect session; the schema exists in it.
        settings: where events come from; its layers play no part.
        storage: folder of the checkpoints and of the gold tables' positions.
        database: schema of the tables.
        full_refresh: compute every table anew from the sources. One that is cut off is done again
            by the next update.
        on_event: receives a line for each step.

    Returns:
        What was done to each derived table.

    Raises:
        PipelineError: a table could not be brought up to date.
    """
    positions = PositionsFile(storage / "derived_tables.json")
    refresh = full_refresh or positions.is_refreshing
    positions.set_refreshing(refresh)
    update_streaming_tables(
        spark,
        settings,
        storage=storage,
        database=database,
        full_refresh=refresh,
        on_event=on_event,
    )
    on_event("lifecycle and gold")
    done = update_derived_tables(
        spark, database, positions, domain=settings.domain, full_refresh=refresh
    )
    positions.set_refreshing(False)
    return done


def update_streaming_tables(
    spark: "SparkSession",
    settings: PipelineSettings,
    *,
    storage: Path,
    database: str = "lakeflow",
    full_refresh: bool = False,
    on_event: Callable[[str], None] = lambda _message: None,
) -> None:
    """Take what is new into bronze, the line items and the quarantine; see `update_tables`.

    Event files that can't be read are set aside, and the others are read.
    """

    def run(layer: str) -> None:
        run_update(
            spark,
            partial(register_pipeline, replace(settings, layers=(layer,))),
            storage=storage,
            database=database,
            full_refresh=full_refresh,
            on_event=on_event,
        )

    read_despite_bad_files(
        Path(settings.events), partial(run, "bronze"), partial(why_unreadable, spark), on_event
    )
    run("silver")
