"""Questions to a model that takes a second, one, 50 and 500 at a time, against what that allows."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from caspers_lib.agents.contracts import RefundAnswer
from caspers_lib.agents.model.asking import Question, answer_questions
from caspers_lib.agents.model.settings import Message, ModelSettings
from tests.agents.model_server import KEY
from tests.benchmarks.measure import in_fresh_process, reported

LATENCY_S = 1.0
# Rounds enough that the start, half a thousand connections at most, weighs little.
_QUESTIONS = {1: 10, 50: 500, 500: 10_000}


def rows(folder: Path) -> list[tuple[str, str, str, str]]:
    """What was measured, the measure, what it is held against, the ratio; for the table."""
    found: list[tuple[str, str, str, str]] = []
    with _server() as url:
        for concurrency, questions in _QUESTIONS.items():
            found += _rows(url, concurrency, questions, None)
        for again in (", each answer kept", ", the same again"):
            found += _rows(url, concurrency, questions, folder, again)
    return found


def _rows(
    url: str, concurrency: int, questions: int, folder: Path | None, how: str = ""
) -> list[tuple[str, str, str, str]]:
    run = in_fresh_process(
        "tests.benchmarks.model_work", "ask", url, concurrency, questions, folder or "-"
    )
    rate, bound = questions / run.result["seconds"], concurrency / LATENCY_S
    cpu = run.result["cpu"] / questions * 1000
    return [
        (
            f"a model's answers a second, {concurrency} at a time{how}",
            f"{rate:,.1f}",
            f"concurrency / latency {bound:.0f}",
            f"{rate / bound:.2f}x",
        ),
        ("their CPU, ms each; peak RSS, MB", f"{cpu:.2f}; {run.peak_mb:.0f}", "", ""),
    ]


def ask(url: str, concurrency: int, questions: int, folder: Path | None) -> dict[str, Any]:
    """Seconds of wall clock and CPU for so many answers; what loads once is loaded before."""
    settings = ModelSettings(
        base_url=url, model="bench", api_key=SecretStr(KEY), concurrency=concurrency
    )
    asked = [_question(number) for number in range(questions)]
    answer_questions(asked[:1], settings, RefundAnswer)
    wall, cpu = time.perf_counter(), time.process_time()
    answers = answer_questions(asked, settings, RefundAnswer, folder=folder)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if any(answer.response is None for answer in answers):
        raise RuntimeError(next(a.reason for a in answers if a.response is None))
    return {"seconds": wall, "cpu": cpu}


def _question(number: int) -> Question:
    """A question as long as a real one."""
    system = Message("system", "You recommend refunds for late orders. " * 50)
    facts = Message("user", f"Order {number} took 61.20 minutes; its total is 31.50 USD. " * 8)
    return Question(
        key=str(number),
        order_id=f"order-{number}",
        order_total=Decimal("31.50"),
        messages=(system, facts),
    )


@contextmanager
def _server() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.agents.model_server", "--latency", str(LATENCY_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
        finally:
            process.kill()


if __name__ == "__main__":
    _, address, at_once, number, kept = sys.argv[1:]
    place = None if kept == "-" else Path(kept)
    reported(lambda: ask(address, int(at_once), int(number), place))
