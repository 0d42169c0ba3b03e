"""The examples do what they say, each in an empty folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from caspers_lib.replay.volume_sink import count_events

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_quickstart_goes_from_an_install_to_events_in_a_folder(tmp_path: Path) -> None:
    program = EXAMPLES / "replay_quickstart.py"
    assert len(program.read_text().splitlines()) <= 20
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    told = [int(line.split()[0].replace(",", "")) for line in done.stdout.splitlines()]
    assert len(told) == 4
    assert sum(told) == count_events(tmp_path / "events") > 1_000
    assert not done.stderr


def test_the_notebook_plots_a_day_with_a_mark_for_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    document = json.loads((EXAMPLES / "notebooks" / "replay_day.ipynb").read_text())
    names: dict[str, object] = {}
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)  # noqa: S102 - ours
    axes, figure, marks = names["axes"], names["figure"], names["marks"]
    assert len(axes.lines) == len(marks) == 4  # type: ignore[attr-defined, arg-type]
    assert sum(mark.events > 0 for mark in marks) == 4  # type: ignore[attr-defined]
    figure.savefig(tmp_path / "day.png")  # type: ignore[attr-defined]
    assert (tmp_path / "day.png").stat().st_size > 10_000
