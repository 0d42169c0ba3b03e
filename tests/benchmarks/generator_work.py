"""The generator and the check, at lengths and scales, and over a file in no order at all."""

import sys
from pathlib import Path

import duckdb

from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.dataset_check import check_dataset
from caspers_lib.replay.generator import generate_dataset
from tests.benchmarks.measure import in_fresh_process, reported

_WORK = "tests.benchmarks.generator_work"


def rows(folder: Path) -> list[tuple[str, str, str, str]]:
    """What was measured, the measure, what it is held against, the ratio; for the table."""
    found: list[tuple[str, str, str, str]] = []
    one = in_fresh_process(_WORK, "generate", folder / "d1", 90, 1)
    for days, scale in ((365, 1), (90, 10)):
        big = in_fresh_process(_WORK, "generate", folder / f"d{days}-{scale}", days, scale)
        found += [
            (
                f"generation, {days} days at scale {scale}, s per million events",
                f"{big.wall / big.result * 1e6:.2f}",
                f"90 days at scale 1 {one.wall / one.result * 1e6:.2f}",
                f"{big.wall / big.result / (one.wall / one.result):.2f}x",
            ),
            (
                "its peak RSS, MB",
                f"{big.peak_mb:.0f}",
                f"90 days at scale 1 {one.peak_mb:.0f}",
                f"{big.peak_mb / one.peak_mb:.2f}x",
            ),
        ]
    ordered = folder / "d90-10" / "events.parquet"
    shuffled = folder / "shuffled.parquet"
    in_fresh_process(_WORK, "shuffle", ordered, shuffled)
    in_order, out_of_order = (
        in_fresh_process(_WORK, "check", path) for path in (ordered, shuffled)
    )
    found.append(
        (
            f"check of {out_of_order.result:,} events in no order, peak RSS, MB",
            f"{out_of_order.peak_mb:.0f}",
            f"sorted {in_order.peak_mb:.0f}",
            f"{out_of_order.peak_mb / in_order.peak_mb:.2f}x",
        )
    )
    return found


def generate(folder: Path, days: int, scale: float) -> int:
    """Events of a generated dataset."""
    return EventsFile.open(generate_dataset(folder, days=days, scale=scale)).rows


def check(dataset: Path) -> int:
    """Events of a checked dataset."""
    return check_dataset(dataset).facts.rows


def shuffle(dataset: Path, out: Path) -> None:
    """The same rows, each anywhere."""
    with duckdb.connect(config={"memory_limit": "4GB"}) as connection:
        connection.execute(
            f"COPY (FROM '{dataset}' ORDER BY hash(order_id, sequence)) TO '{out}' "
            "(FORMAT parquet, COMPRESSION zstd)"
        )


if __name__ == "__main__":
    work, *words = sys.argv[1:]
    paths = [Path(word) for word in words]
    if work == "generate":
        reported(lambda: generate(paths[0], int(words[1]), float(words[2])))
    elif work == "check":
        reported(lambda: check(paths[0]))
    else:
        reported(lambda: shuffle(*paths))
