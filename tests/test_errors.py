"""The cause of an error in one line, whatever carries it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.errors import PipelineError, first_cause

HEADER = "Traceback (most recent call last):\n"
FRAME = '  File "/a/b/worker.py", line 85, in main\n    process(df)\n    ^^^^^^^^^^^\n'
STACK = "\tat org.apache.spark.sql.Some$.method(Some.scala:390)\n\tat java.lang.Thread.run(T:840)"
IN_WORKER = (
    "[STREAM_FAILED] Query [id = 5-7, runId = 7-f] terminated with exception: [PYTHON_EXCEPTION]"
    " [session: d-b] [userId: ] Found error inside foreachBatch Python process: "
)
PLAN = " SQLSTATE: 38000 SQLSTATE: XXKST\n=== Streaming Query ===\nIdentifier: [id = 5-7]\n"
TASK = (
    "Job aborted due to stage failure: Task 0 in stage 1.0 failed 1 times, most recent failure: "
    "Lost task 0.0 in stage 1.0 (TID 5) (localhost executor driver): "
)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("no such table\nsecond line", "no such table"),
        ("", "no reason given"),
        (
            f"{IN_WORKER}{HEADER}{FRAME}ValueError: two\nlines\n{PLAN}\n\nJVM stacktrace:\n{STACK}",
            "ValueError: two",
        ),
        (f"{IN_WORKER}{HEADER}{FRAME}KeyboardInterrupt\n{PLAN}", "KeyboardInterrupt"),
        (
            f"{IN_WORKER}{HEADER}{FRAME}ZeroDivisionError: division by zero\n\nThe above exception "
            f"was the direct cause of the following exception:\n\n{HEADER}{FRAME}"
            f"caspers_lib.errors.SyncError: the batch can't be applied\n{PLAN}",
            "the batch can't be applied",
        ),
        (
            f"{IN_WORKER}{HEADER}{FRAME}pyspark.errors.exceptions.connect.ArithmeticException: "
            f"[DIVIDE_BY_ZERO] Division by zero. SQLSTATE: 22012\n== DataFrame ==\nx\n\n"
            f"JVM stacktrace:\n{STACK}",
            "[DIVIDE_BY_ZERO] Division by zero.",
        ),
        (
            f"{IN_WORKER}{HEADER}{FRAME}",
            "[PYTHON_EXCEPTION] Found error inside foreachBatch Python process",
        ),
        (
            f"{IN_WORKER}{STACK}",
            "[PYTHON_EXCEPTION] Found error inside foreachBatch Python process",
        ),
        (
            "[STREAM_FAILED] Query [id = 5, runId = 7] terminated with exception: "
            f"Python worker failed to connect back. SQLSTATE: XXKST\n\nJVM stacktrace:\n{STACK}",
            "Python worker failed to connect back.",
        ),
        (
            f"{TASK}org.apache.spark.SparkException: Python worker exited unexpectedly\n{STACK}",
            "Python worker exited unexpectedly",
        ),
        (
            "[TASK_WRITE_FAILED] Task failed while writing rows. SQLSTATE: 58030\n\nJVM stacktrace:"
            f"\norg.apache.spark.SparkException\n{STACK}\nCaused by: java.io.IOException: broken\n"
            f"{STACK}\nCaused by: java.io.IOException: No space left on device\n{STACK}",
            "[TASK_WRITE_FAILED] Task failed while writing rows: No space left on device",
        ),
        (
            "<_MultiThreadedRendezvous of RPC that terminated with:\n\tstatus = "
            'StatusCode.UNAVAILABLE\n\tdetails = "failed to connect"\n\tdebug = "x"\n>',
            "UNAVAILABLE: failed to connect",
        ),
    ],
)
def test_a_cause_is_found_in_the_text_that_carries_it(text: str, cause: str) -> None:
    assert first_cause(text) == cause


def test_an_error_without_text_is_its_class() -> None:
    assert first_cause(KeyError()) == "KeyError"
    assert first_cause(PipelineError("a flow failed", hint="look")) == "a flow failed"


@given(
    st.lists(
        st.sampled_from(
            [HEADER, FRAME, STACK, IN_WORKER, PLAN, TASK, "\n", "Caused by: ", "ValueError: x\n",
             "\n\nJVM stacktrace:\n", "java.io.IOException: y\n", "plain words\n"]
        ),
        max_size=12,
    )
)  # fmt: skip
def test_no_text_is_answered_by_a_stack_or_by_more_than_one_line(pieces: list[str]) -> None:
    cause = first_cause("".join(pieces))
    assert cause
    assert len(cause.splitlines()) == 1
    assert "Traceback" not in cause
    assert "\tat " not in cause
    assert not cause.startswith(("File ", "at "))
