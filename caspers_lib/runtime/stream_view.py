"""`caspers stream`: one agent's stream over what is new, on a terminal."""

import json
import time
from contextlib import nullcontext

from rich.console import Console

from caspers_lib.agents.tables import AGENT_TABLES
from caspers_lib.errors import PipelineError
from caspers_lib.runtime.catalog import delta_rows
from caspers_lib.runtime.local_business import LocalBusiness, StreamName
from caspers_lib.runtime.local_root import LocalRoot, Owner, owned

__all__ = ["run_stream"]

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
    console = Console(stderr=True)
    business = LocalBusiness(root)
    business.check_models()
    started = time.monotonic()
    with owned(root, Owner.this_process(f"caspers stream {name}")):
        before = _rows(root, name)
        working = nullcontext() if as_json else console.status("starting Spark")
        try:
            with working as spinner:
                report = spinner.update if spinner else lambda _text: None
                business.start_spark(report)
                business.stream(name)(report)
        finally:
            business.stop()
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


def _rows(root: LocalRoot, name: StreamName) -> int:
    table = root.table(_WRITTEN[name])
    return delta_rows(table) if table.is_dir() else 0
