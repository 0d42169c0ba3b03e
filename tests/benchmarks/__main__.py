"""`make bench`: every benchmark, each against its baseline in the same run, as one table."""

import argparse
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import (
    agent_work,
    business_work,
    console_work,
    desk_work,
    generator_work,
    import_work,
    medallion_work,
    model_work,
    replay_work,
    spark_source_work,
    sync_work,
)

_PARTS = {
    "import": import_work.rows,
    "replay": replay_work.rows,
    "generator": generator_work.rows,
    "spark": spark_source_work.rows,
    "medallion": medallion_work.rows,
    "agents": agent_work.rows,
    "model": model_work.rows,
    "sync": sync_work.rows,
    "business": business_work.rows,
    "console": console_work.rows,
    "desk": desk_work.rows,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...")
    parser.add_argument("parts", nargs="*", choices=[[], *_PARTS])
    chosen = parser.parse_args().parts or list(_PARTS)
    table = Table("what", "measured", "against", "ratio", title="caspers_lib benchmarks")
    for name in chosen:
        table.add_section()
        with tempfile.TemporaryDirectory(prefix="caspers-bench-") as folder:
            for row in _PARTS[name](Path(folder)):
                table.add_row(*row)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
