"""`caspers stream`: one agent's stream over what is new, on a terminal."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from rich.console import Console

from caspers_lib.agents.tables import AGENT_TABLES
from caspers_lib.errors import PipelineError
from caspers_lib.lakebase import SyncSpec
from caspers_lib.runtime.agent_models import check_models
from caspers_lib.runtime.catalog import delta_rows
from caspers_lib.runtime.java import find_java
from caspers_lib.runtime.local_business import LocalBusiness, StreamName
from caspers_lib.runtime.local_root import LocalRoot, Owner, owned
from caspers_lib.runtime.stages import Report, RetryPolicy

__all__ = ["retried", "run_stream", "spark_on"]

T = TypeVar("T")

_WRITTEN = {
    "refunds": AGENT_TABLES.recommendations.name,
    "complaints": AGENT_TABLES.complaints.name,
    "responses": AGENT_TABLES.responses.name,
}


def run_stream(root: LocalRoot, name: StreamName, *, as_json: bool) -> None:
    """Run one stream of ROOT over what is new and print what it wrote.

    Args:
        root: where the demo lies; no other process may own it.
        name: which stream.
        as_json: print one JSON document.

    Raises:
        PipelineError: what the stream reads isn't there, or it failed.
        SettingsError: the model's settings are not allowed.
        RootLockedError: a demo runs on this ROOT.
    """
    source = AGENT_TABLES.complaints.name if name == "responses" else AGENT_TABLES.events
    if not root.table(source).is_dir():
        earlier = "caspers stream complaints" if name == "responses" else "caspers pipeline run"
        raise PipelineError(
            f"There is no table {source} under {root.path}", hint=f"`{earlier}` writes it"
        )
    business = LocalBusiness(root)
    check_models(root.settings)
    started = time.monotonic()
    with spark_on(business, f"caspers stream {name}", quiet=as_json) as report:
        before = _rows(root, name)
        retried(lambda: business.stream(name)(report))
        after = _rows(root, name)
    seconds = time.monotonic() - started
    found = {"table": _WRITTEN[name], "rows": after, "new": after - before}
    if as_json:
        print(json.dumps({**found, "seconds": round(seconds, 1)}, indent=2))
        return
    Console().print(
        f"{found['table']}: {after:,} rows, {after - before:,} of them new; {seconds:.0f} s",
        highlight=False,
    )


@contextmanager
def spark_on(
    business: LocalBusiness,
    command: str,
    *,
    quiet: bool,
    synced: Sequence[SyncSpec] | None = None,
) -> Iterator[Report]:
    """Own ROOT and run Spark for the block; what goes on stands beside a spinner.

    Args:
        business: whose Spark.
        command: what owns ROOT, as others read it.
        quiet: show no spinner.
        synced: tables whose PostgreSQL is started before; None needs none.

    Yields:
        What receives a line on what goes on.

    Raises:
        RootLockedError: a demo runs on this ROOT.
        JavaError, PostgresError, EngineError: what is needed can't be started.
    """
    working = nullcontext() if quiet else Console(stderr=True).status("starting")
    owner = Owner.this_process(command)
    with owned(business.root, owner, business.domain), working as spinner:
        report: Report = spinner.update if spinner else lambda _text: None
        find_java(business.root.run)
        try:
            if synced is not None:
                business.start_postgres(report, synced)
            business.start_spark(report)
            yield report
        finally:
            business.stop()


def retried(work: Callable[[], T]) -> T:
    """Try once more what failed for a moment, and say so on stderr.

    Args:
        work: one stage's work, which leaves as it is what it has done already.
    """

    def say(_retry: int, cause: str) -> None:
        Console(stderr=True).print(
            f"failed, and is tried once more: {cause}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    return RetryPolicy(attempts=2).run(work, say)


def _rows(root: LocalRoot, name: StreamName) -> int:
    table = root.table(_WRITTEN[name])
    return delta_rows(table) if table.is_dir() else 0
