"""`make bench`: every benchmark, each against its baseline in the same run, as one table."""

import argparse
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from caspers_lib.replay.generator import generate_dataset
from tests.benchmarks.measure import Measurement, in_fresh_process

DAYS = 90
START_DAY = 70


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...")
    parser.add_argument("parts", nargs="*", choices=[[], "replay", "spark", "business"])
    chosen = parser.parse_args().parts or ["replay", "spark", "business"]
    table = Table("what", "measured", "against", "ratio", title="caspers_lib benchmarks")
    with tempfile.TemporaryDirectory(prefix="caspers-bench-") as folder:
        if "replay" in chosen:
            _replay(Path(folder), table)
        if "spark" in chosen:
            _spark_source(Path(folder), table)
        if "business" in chosen:
            _business(Path(folder), table)
    Console(width=150).print(table)


def _replay(folder: Path, table: Table) -> None:
    one = generate_dataset(folder / "x1", days=DAYS)
    ten = generate_dataset(folder / "x10", days=DAYS, scale=10)

    def run(work: str, dataset: Path, day: int, name: str) -> Measurement:
        return in_fresh_process("tests.benchmarks.replay_work", work, dataset, folder / name, day)

    ours = run("first_run", one, DAYS - 1, "a")
    naive = run("pandas_to_spark", one, DAYS - 1, "b")
    speed = ours.result / ours.wall
    naive_speed = naive.result["events"] / naive.result["seconds"]
    table.add_row(
        f"replay of {ours.result:,} events, events/s",
        f"{speed:,.0f}",
        f"pandas + Spark {naive_speed:,.0f}",
        f"{speed / naive_speed:.1f}x",
    )
    table.add_row(
        "its peak RSS, MB",
        f"{ours.peak_mb:.0f}",
        f"pandas + Spark {naive.peak_mb:.0f}",
        f"{ours.peak_mb / naive.peak_mb:.2f}x",
    )
    big = run("first_run", ten, DAYS - 1, "c")
    table.add_row(
        f"peak RSS for {big.result:,} events, MB",
        f"{big.peak_mb:.0f}",
        f"1x data {ours.peak_mb:.0f}",
        f"{big.peak_mb / ours.peak_mb:.2f}x",
    )
    small, large = (run("ticks", d, START_DAY, n).result for d, n in ((one, "d"), (ten, "e")))
    table.add_row(
        f"tick of 3 virtual hours, 10x data ({large['events']:,.0f} events), ms",
        f"{large['median'] * 1000:.0f}",
        f"1x data ({small['events']:,.0f} events) {small['median'] * 1000:.0f}",
        f"{large['median'] / small['median']:.1f}x",
    )


def _spark_source(folder: Path, table: Table) -> None:
    dataset = generate_dataset(folder / "spark", days=DAYS)

    def speed(source: str, days: int) -> tuple[int, float]:
        module = "tests.benchmarks.spark_source_work"
        found = in_fresh_process(module, source, dataset, folder / source, days).result
        return found["events"], found["events"] / found["seconds"]

    events, ours = speed("caspers_replay", DAYS)
    _, naive = speed("row_by_row", DAYS // 9)
    table.add_section()
    table.add_row(
        f"Spark data source, {events:,} events, events/s",
        f"{ours:,.0f}",
        f"row by row {naive:,.0f}",
        f"{ours / naive:.1f}x",
    )


def _business(folder: Path, table: Table) -> None:
    measured = in_fresh_process("tests.benchmarks.business_work", "rounds", folder / "root")
    result = measured.result
    first, later = result["first"], result["later"]
    table.add_section()
    table.add_row("console up, s", f"{result['console']:.1f}", "", "")
    table.add_row(
        "live data from nothing, s",
        f"{result['live']:.0f}",
        "three minutes 180",
        f"{result['live'] / 180:.2f}x",
    )
    table.add_row("peak RSS of all processes, MB", f"{measured.peak_mb:,.0f}", "", "")
    for name, seconds in first.items():
        again = later[name]
        incremental = name in later and name not in (
            "Local_Postgres",
            "Local_Spark",
            "Canonical_Data",
            "Dimension_Tables",
        )
        table.add_row(
            f"{name}, s",
            f"first {seconds:.1f}",
            f"then {again:.1f}" if incremental else "",
            f"{again / seconds:.2f}x" if incremental else "",
        )
    table.add_row(
        f"a live round ({later['events']:,} new events), s",
        f"{later['round']:.1f}",
        f"first round {result['live']:.0f}",
        f"{later['round'] / result['live']:.2f}x",
    )


if __name__ == "__main__":
    main()
