"""Run a piece of work in a process of its own and say what it took."""

import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

__all__ = ["Measurement", "in_fresh_process", "reported"]

_SAMPLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a piece of work took.

    Args:
        wall: wall-clock seconds of the work itself, start-up aside.
        cpu: CPU seconds of its process and children.
        peak_mb: largest resident memory of the whole process tree at one moment, in MB.
        result: what the work returned.
    """

    wall: float
    cpu: float
    peak_mb: float
    result: Any


def in_fresh_process(module: str, work: str, *words: object) -> Measurement:
    """Run `python -m module work words...` and read the report it prints last."""
    command = [sys.executable, "-m", module, work, *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = _TreePeak(process.pid)
    with peak.sampling():
        out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with {process.returncode}")
    report = json.loads(out.strip().splitlines()[-1])
    return Measurement(report["wall"], report["cpu"], peak.bytes / 1e6, report["result"])


def reported(work: Callable[[], Any]) -> None:
    """Time `work` in this process and print the report for `in_fresh_process`."""
    started, cpu = time.perf_counter(), _cpu()
    result = work()
    wall = time.perf_counter() - started
    print(json.dumps({"wall": wall, "cpu": _cpu() - cpu, "result": result}), flush=True)


def _cpu() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class _TreePeak:
    """The largest sum of resident memory over a process and its children."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._done = threading.Event()
        self.bytes = 0

    @contextmanager
    def sampling(self) -> Iterator[None]:
        sampler = threading.Thread(target=self._sample, daemon=True)
        sampler.start()
        try:
            yield
        finally:
            self._done.set()
            sampler.join()

    def _sample(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            self.bytes = max(self.bytes, sum(map(_resident, self._tree())))

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
