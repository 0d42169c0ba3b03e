"""A whole demo in one process: rounds by stage, updates of the pipeline, and when data is live."""

import sys
import time
from pathlib import Path
from typing import Any

from caspers_lib.runtime.demo import Demo
from caspers_lib.runtime.local_business import LocalBusiness
from caspers_lib.runtime.local_root import LocalRoot
from caspers_lib.runtime.settings import load_settings
from tests.benchmarks.measure import in_fresh_process, reported

INCREMENTAL_ROUNDS = 4
NEW_EVENTS_SECONDS = 60.0  # one virtual hour at speed 60
_ONCE = ("Local_Postgres", "Local_Spark", "Canonical_Data", "Dimension_Tables")


def rows(folder: Path) -> list[tuple[str, str, str, str]]:
    """What was measured, the measure, what it is held against, the ratio; for the table."""
    measured = in_fresh_process("tests.benchmarks.business_work", "rounds", folder / "root")
    result = measured.result
    first, later = result["first"], result["later"]
    found = [
        ("console up, s", f"{result['console']:.1f}", "", ""),
        (
            "live data from nothing, s",
            f"{result['live']:.0f}",
            "three minutes 180",
            f"{result['live'] / 180:.2f}x",
        ),
        ("peak RSS of all processes, MB", f"{measured.peak_mb:,.0f}", "", ""),
    ]
    for name, seconds in first.items():
        again = "" if name in _ONCE else f"{later[name]:.1f}"
        ratio = again and f"{later[name] / seconds:.2f}x"
        found.append((f"{name}, s", f"first {seconds:.1f}", again and f"then {again}", ratio))
    found.append(
        (
            f"a live round ({later['events']:,} new events), s",
            f"{later['round']:.1f}",
            f"first round {result['live']:.0f}",
            f"{later['round'] / result['live']:.2f}x",
        )
    )
    return found


def rounds(root: Path) -> dict[str, Any]:
    """Seconds by stage of the first round and of the median incremental one."""
    clock = [1_795_000_000.0 + 20 * 3600]
    business = LocalBusiness(LocalRoot(root, load_settings(environment={})), now=lambda: clock[0])
    demo = Demo(business, port=0)
    started = time.perf_counter()
    with demo.running():
        console = time.perf_counter() - started
        demo.first_round()
        live = time.perf_counter() - started
        first = {r.name: r.seconds for r in demo.progress.snapshot()}
        later: list[dict[str, float]] = []
        for _ in range(INCREMENTAL_ROUNDS):
            clock[0] += NEW_EVENTS_SECONDS
            events = business.tick().events
            result = demo._round(business.round(), lambda: False)
            stages = {r.name: r.seconds for r in demo.progress.snapshot()}
            later.append({**stages, "round": result.seconds, "events": events})
    later.sort(key=lambda r: r["round"])
    median = later[len(later) // 2]
    return {"console": console, "live": live, "first": first, "later": median}


if __name__ == "__main__":
    reported(lambda: rounds(Path(sys.argv[2])))
