"""Calls to a workspace: hints that fit, errors on one line, waits that end."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from databricks.sdk.config import Config
from databricks.sdk.core import DatabricksError
from databricks.sdk.errors import OperationFailed, OperationTimeout, platform

from caspers_lib.errors import SettingsError, WorkspaceError
from caspers_lib.workspace_calls import (
    Patience,
    asked,
    explained,
    found,
    is_conflict,
    refusal,
)


def failing(error: Exception) -> Callable[..., str]:
    def call(*_: object) -> str:
        raise error

    return call


def failure(call: Callable[[], object]) -> WorkspaceError:
    with pytest.raises(WorkspaceError) as caught:
        call()
    error = caught.value
    assert error.hint
    assert "\n" not in error.message + error.hint
    return error


def test_an_answer_is_given_as_it_is() -> None:
    assert asked("x was not read", lambda: "answer") == "answer"
    assert found(str.upper, "x") == "X"


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (platform.Unauthenticated("no credentials", error_code="UNAUTHENTICATED"), "Log in:"),
        (platform.PermissionDenied("Invalid access token.", error_code="403"), "Log in:"),
        (ValueError("default auth: cannot configure default credentials"), "Log in:"),
        (platform.PermissionDenied("Access token has expired", error_code="403"), "Log in again"),
        (ValueError("cannot get access token: refresh token is invalid"), "Log in again"),
        (platform.PermissionDenied("no USE CATALOG", error_code="PERMISSION_DENIED"), "permission"),
        (
            platform.BadRequest("too many apps", error_code="RESOURCE_LIMIT_EXCEEDED"),
            "ask an admin",
        ),
        (platform.BadRequest("The quota of 10 apps is exceeded"), "ask an admin"),
        (platform.ResourceConflict("busy"), "this name"),
        (platform.AlreadyExists("taken", error_code="ALREADY_EXISTS"), "this name"),
        (platform.NotFound("no such app", error_code="NOT_FOUND"), "exist and"),
        (platform.ResourceDoesNotExist("gone", error_code="RESOURCE_DOES_NOT_EXIST"), "exist and"),
        (platform.NotFound("Table quota_use does not exist"), "exist and"),
        (TimeoutError("Timed out after 0:05:00"), "done all the same"),
        (OperationTimeout("Timed out after 0:05:00"), "done all the same"),
        (OperationFailed("failed to reach ACTIVE, got ERROR: out of capacity"), "page in the"),
        (platform.DeadlineExceeded("slow", error_code="DEADLINE_EXCEEDED"), "done all the same"),
        (platform.TooManyRequests("slow down", error_code="REQUEST_LIMIT_EXCEEDED"), "later"),
        (platform.TemporarilyUnavailable("down"), "later"),
        (ConnectionError("no route to host"), "later"),
        (platform.BadRequest("no", error_code="BAD_REQUEST"), "page in the workspace"),
    ],
)
def test_what_goes_wrong_gets_the_hint_it_deserves(error: Exception, hint: str) -> None:
    caught = failure(lambda: asked("The app x was not created", failing(error)))
    assert caught.message.startswith(f"The app x was not created: {error}")
    assert hint in caught.hint
    assert caught.__cause__ is error


def test_a_client_that_nobody_logged_in_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("DATABRICKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", "/nowhere")
    caught = failure(lambda: asked("No workspace", lambda: Config(auth_type="pat")))
    assert caught.hint.startswith("Log in:")


def test_a_cure_of_ones_own_comes_first() -> None:
    error = platform.PermissionDenied("Feature X is\noff")
    cures = ((r"feature y", "Turn y on."), (r"feature x is off", "Turn x on."))
    assert failure(lambda: asked("x", failing(error), cures=cures)).hint == "Turn x on."
    assert explained("x", error, cures=cures[:1]).hint != "Turn x on."


def test_no_words_leave_the_kind() -> None:
    assert refusal("x was not made", "", "SOME_CODE").message == "x was not made: SOME_CODE"
    assert explained("x", platform.BadRequest("")).message in ("x: BadRequest", "x: None")


def test_a_time_out_says_what_the_sdk_met_last() -> None:
    late = TimeoutError("Timed out after 0:05:00")
    assert explained("x", late).message == "x: Timed out after 0:05:00"
    late.__cause__ = platform.TemporarilyUnavailable("down")
    assert explained("x", late).message == "x: Timed out after 0:05:00 (down)"


def test_words_are_cut_and_shown_on_one_line() -> None:
    said = "a\n\tb\x1b[31m \u202e" + "x" * 1_000 + ". Config: host=http://secret"
    message = refusal("y", said, "").message
    assert message.startswith("y: a b?[31m ?xxx")
    assert len(message) < 310
    assert refusal("y", "no. Config: host=h, token=t", "").message == "y: no"


@pytest.mark.parametrize("error", [KeyError("x"), AttributeError("x"), RuntimeError("x")])
def test_mistakes_of_ours_are_not_hidden(error: Exception) -> None:
    with pytest.raises(type(error)):
        asked("x", failing(error))


def test_what_is_not_there_is_none_and_what_can_not_be_told_is_an_error() -> None:
    assert found(failing(platform.NotFound("no")), "apps/x") is None
    assert found(failing(platform.ResourceDoesNotExist("no")), "apps/x") is None
    caught = failure(lambda: found(failing(platform.PermissionDenied("no")), "apps/x"))
    assert caught.message == "apps/x can't be read: no"


def test_only_a_conflict_is_one() -> None:
    assert is_conflict(platform.ResourceConflict("x"))
    assert is_conflict(platform.BadRequest("x", error_code="APP_ALREADY_EXISTS"))
    assert not is_conflict(platform.BadRequest("x", error_code="BAD_REQUEST"))
    assert not is_conflict(DatabricksError("x"))
    assert not is_conflict(OSError("x"))


def test_a_wait_asks_at_once_and_at_its_end() -> None:
    slept: list[float] = []
    patience = Patience(timeout_seconds=7, sleep=slept.append, clock=lambda: sum(slept))
    asked_at: list[float] = []

    def never() -> None:
        asked_at.append(sum(slept))

    caught = failure(lambda: patience.starts().until("It was not done", never))
    assert caught.message == "It was not done within 7 seconds."
    assert asked_at == [0, 1, 3, 6, 7]
    assert patience.starts().until("It was not done", lambda: False) is False


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_wait_without_an_end_is_refused(seconds: float) -> None:
    with pytest.raises(SettingsError):
        Patience(timeout_seconds=seconds)


def test_importing_it_loads_no_sdk() -> None:
    check = "import sys, caspers_lib.workspace_calls; print('databricks' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
