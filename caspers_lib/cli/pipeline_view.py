"""`caspers pipeline`: one update on a terminal, and the picture of the tables."""

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from caspers_lib.cli.stream_view import retried, spark_on
from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import PipelineError
from caspers_lib.medallion.graph import PipelineGraph, TableState, pipeline_graph
from caspers_lib.medallion.registration import table_names
from caspers_lib.replay.volume_sink import count_events
from caspers_lib.runtime.catalog import delta_rows, delta_tables, last_commit
from caspers_lib.runtime.event_folder import unreadable_files
from caspers_lib.runtime.local_business import LocalBusiness
from caspers_lib.runtime.local_root import LocalRoot

__all__ = ["read_graph", "run_pipeline"]

_SCHEMA = "lakeflow"


def run_pipeline(root: LocalRoot, *, full_refresh: bool, as_json: bool) -> None:
    """Take what is new through every table of ROOT and print what was done.

    Args:
        root: where the demo lies; no other process may own it.
        full_refresh: compute every table anew from the event files.
        as_json: print one JSON document.

    Raises:
        PipelineError: there are no events, or a table can't be brought up to date.
        RootLockedError: a demo runs on this ROOT.
    """
    if not root.events.is_dir():
        raise PipelineError(
            f"There are no events in {root.events}", hint="`caspers replay tick` writes some"
        )
    business = LocalBusiness(root)
    started = time.monotonic()
    with spark_on(business, "caspers pipeline run", quiet=as_json) as report:
        before = _rows(root)
        done = retried(lambda: business.update_tables(report, full_refresh=full_refresh))
        after = _rows(root)
    seconds = time.monotonic() - started
    unreadable = unreadable_files(root.events)
    how = {update.table: update.how for update in done}
    if as_json:
        tables = {
            f"{_SCHEMA}.{name}": {
                "rows": after.get(name, 0),
                "before": before.get(name, 0),
                "how": how.get(name, "new rows appended"),
            }
            for name in table_names()
        }
        document = {
            "seconds": round(seconds, 1),
            "tables": tables,
            "unreadable_files": [asdict(file) for file in unreadable],
        }
        print(json.dumps(document, indent=2))
        return
    table = Table()
    table.add_column("table", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("new", justify="right", no_wrap=True)
    table.add_column("how")
    for name in table_names():
        rows = after.get(name, 0)
        grown = rows - before.get(name, 0)
        table.add_row(name, f"{rows:,}", f"{grown:+,}", how.get(name, "new rows appended"))
    Console().print(table)
    for file in unreadable:
        line = Text.assemble(("unreadable ", "red"), f"{file.path}: {file.reason}")
        Console().print(line, soft_wrap=True)
    if unreadable:
        Console().print(
            f"Nothing of these files is in a table. Mend one and put it back into {root.events}"
            " under another name.",
            highlight=False,
            soft_wrap=True,
        )
    Console().print(f"{seconds:.0f} s, of which Spark's start is 6 to 10", highlight=False)


def read_graph(root: LocalRoot) -> PipelineGraph:
    """The pipeline's graph with what is under ROOT; a running demo is not disturbed.

    Raises:
        RootError: a table is there but can't be read.
    """
    states = {
        name.removeprefix(f"{_SCHEMA}."): TableState(delta_rows(path), last_commit(path))
        for name, path in delta_tables(root.warehouse, (_SCHEMA,)).items()
    }
    events = None
    if root.events.is_dir():
        events = TableState(count_events(root.events) or 0, _newest(root.events))
    return pipeline_graph(states, events=events, domain=GHOST_KITCHEN)


def _rows(root: LocalRoot) -> dict[str, int]:
    tables = delta_tables(root.warehouse, (_SCHEMA,))
    return {name.removeprefix(f"{_SCHEMA}."): delta_rows(path) for name, path in tables.items()}


def _newest(folder: Path) -> datetime | None:
    times = [p.stat().st_mtime for p in folder.iterdir() if not p.name.startswith((".", "_"))]
    return datetime.fromtimestamp(max(times), UTC) if times else None
