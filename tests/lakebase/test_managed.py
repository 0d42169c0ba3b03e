"""Managed synced tables: the SDK itself against a stand-in for the workspace."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.service.postgres import Project, ProjectSpec

from caspers_lib.errors import SettingsError
from caspers_lib.lakebase.managed import (
    ManagedPlace,
    Patience,
    SyncedTableStatus,
    create_synced_table,
    delete_synced_table,
    synced_table_pipeline,
    synced_table_status,
    wait_for_synced_table,
)
from caspers_lib.lakebase.sync_spec import SyncSpec
from tests.lakebase.test_managed_request import (
    HOSTILE,
    NAME,
    PLACE,
    PROJECT,
    SOURCE,
    SPEC,
    TABLE,
    failure,
    refused,
)
from tests.workspace_fake import API, TOKEN, LoopbackWorkspace, Refused
from tests.workspace_fake.conftest import FakeTime


@pytest.fixture
def clock() -> FakeTime:
    return FakeTime()


@pytest.fixture
def patience(clock: FakeTime) -> Patience:
    return Patience(timeout_seconds=60, sleep=clock.sleep, clock=clock.time)


@pytest.fixture
def workspace() -> Iterator[LoopbackWorkspace]:
    with LoopbackWorkspace().running() as running:
        running.add_schema(SOURCE.rpartition(".")[0])
        running.add_table(SOURCE, change_feed=True)
        yield running


def make(
    client: WorkspaceClient, spec: SyncSpec, place: ManagedPlace, patience: Patience
) -> tuple[bool, str]:
    """Create a table and wait for it: whether it is new, and its state."""
    operation = create_synced_table(client, spec, place)
    status = wait_for_synced_table(client, spec, place, operation, patience=patience)
    return operation is not None, status.state


def asked(workspace: LoopbackWorkspace) -> list[str]:
    """The calls, each as method, resource name and query."""
    return [
        " ".join(
            (
                call.method,
                call.path.removeprefix(f"{API}/"),
                *(f"{name}={value}" for name, value in call.query.items()),
            )
        )
        for call in workspace.calls
    ]


@pytest.fixture
def connect(
    workspace: LoopbackWorkspace, clock: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], WorkspaceClient]:
    for name in [n for n in os.environ if n.startswith("DATABRICKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def make(token: str) -> WorkspaceClient:
        return WorkspaceClient(config=Config(host=workspace.url, token=token, clock=clock))

    return make


@pytest.fixture
def client(connect: Callable[[str], WorkspaceClient]) -> WorkspaceClient:
    return connect(TOKEN)


@pytest.fixture
def ready(client: WorkspaceClient, workspace: LoopbackWorkspace) -> WorkspaceClient:
    """A workspace with the project."""
    spec = ProjectSpec(display_name="Refunds", pg_version=17)
    client.postgres.create_project(Project(spec=spec), PROJECT)
    workspace.calls.clear()
    return client


# Creating, again, and deleting.


ONLINE = "SYNCED_TABLE_ONLINE_CONTINUOUS_UPDATE"


def test_created_twice_and_deleted_these_calls_are_made(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    assert make(ready, SPEC, PLACE, patience) == (True, ONLINE)
    assert make(ready, SPEC, PLACE, patience) == (False, ONLINE)
    assert delete_synced_table(ready, TABLE, patience=patience)
    assert not delete_synced_table(ready, TABLE, patience=patience)
    calls = [re.sub("operations/.*", "operations/…", call) for call in asked(workspace)]
    assert calls == [
        f"GET {NAME}",
        f"POST synced_tables synced_table_id={TABLE}",
        f"GET {NAME}/operations/…",
        f"GET {NAME}/operations/…",
        f"GET {NAME}",
        # again
        f"GET {NAME}",
        f"GET {NAME}",
        # gone
        f"DELETE {NAME}",
        f"GET {NAME}/operations/…",
        f"GET {NAME}/operations/…",
        f"DELETE {NAME}",
    ]
    assert NAME not in workspace.lakebase.resources


def test_a_second_table_shares_the_pipeline_of_the_first(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    assert synced_table_pipeline(ready, TABLE) is None
    make(ready, SPEC, PLACE, patience)
    pipeline = synced_table_pipeline(ready, TABLE)
    other = replace(SPEC, table="pg_again")
    create_synced_table(ready, other, PLACE, pipeline=pipeline)
    assert synced_table_pipeline(ready, TABLE.replace("recommendations", "again")) == pipeline
    assert len(workspace.pipelines.pipelines.items) == 1


def test_a_table_in_another_project_is_left_alone(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    make(ready, SPEC, PLACE, patience)
    workspace.lakebase.resources[NAME]["status"]["project"] = "projects/theirs"
    workspace.calls.clear()
    message, hint = refused(lambda: create_synced_table(ready, SPEC, PLACE))
    assert message == f"{NAME} exists in projects/theirs, not in projects/{PROJECT}."
    assert "left alone" in hint
    assert asked(workspace) == [f"GET {NAME}"]


def test_somebody_who_is_faster_is_no_error(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    make(ready, SPEC, PLACE, patience)
    workspace.next_time(f"GET {API}/{NAME}", Refused(404, "NOT_FOUND", "not yet"))
    assert make(ready, SPEC, PLACE, patience) == (False, ONLINE)


def test_a_name_that_something_else_has_is_an_error(
    ready: WorkspaceClient, workspace: LoopbackWorkspace
) -> None:
    taken = Refused(409, "TABLE_ALREADY_EXISTS", "Table 't' already exists")
    workspace.next_time(f"POST {API}/synced_tables", taken)
    message, hint = failure(lambda: create_synced_table(ready, SPEC, PLACE))
    assert message == f"{NAME} was not created: Table 't' already exists"
    assert "this name" in hint


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_reach_no_service(
    client: WorkspaceClient, workspace: LoopbackWorkspace, name: str
) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: delete_synced_table(client, f"c.s.{name}"),
        lambda: delete_synced_table(client, f"{name}.s.t"),
        lambda: synced_table_pipeline(client, f"c.s.{name}"),
        lambda: synced_table_status(client, name),
        lambda: synced_table_status(client, f"c.{name}.t"),
    ]
    for call in calls:
        refused(call, SettingsError)
    assert asked(workspace) == []


# Waiting.


def test_a_wait_ends_at_its_time_and_the_same_call_goes_on(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience, clock: FakeTime
) -> None:
    workspace.lakebase.polls = 10**6
    clock.slept.clear()
    message, hint = failure(lambda: make(ready, SPEC, PLACE, patience))
    assert message == f"{NAME} was not created within 60 seconds."
    assert "goes on" in hint
    assert sum(clock.slept) == pytest.approx(60)
    assert clock.slept[:3] == [1, 2, 3]
    assert max(clock.slept) <= 10
    assert make(ready, SPEC, PLACE, patience) == (False, ONLINE)


def test_a_table_is_waited_for_until_its_first_copy_is_made(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    workspace.lakebase.states = [
        "SYNCED_TABLE_PROVISIONING",
        "SYNCED_TABLE_PROVISIONING_PIPELINE_RESOURCES",
        "SYNCED_TABLE_PROVISIONING_INITIAL_SNAPSHOT",
        "SYNCED_TABLE_ONLINE_NO_PENDING_UPDATE",
    ]
    assert make(ready, SPEC, PLACE, patience) == (True, "SYNCED_TABLE_ONLINE_NO_PENDING_UPDATE")
    workspace.lakebase.states = ["SYNCED_TABLE_PROVISIONING"]
    message, _ = failure(lambda: make(ready, SPEC, PLACE, patience))
    assert message == f"{NAME} was not provisioned within 60 seconds."


def test_pauses_grow_up_to_ten_seconds(clock: FakeTime) -> None:
    patience = Patience(timeout_seconds=100, sleep=clock.sleep, clock=clock.time)
    failure(lambda: patience.starts().until("It was not done", lambda: None))
    assert clock.slept == [*range(1, 11), 10, 10, 10, 10, 5]


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_wait_without_an_end_is_refused(seconds: float) -> None:
    refused(lambda: Patience(timeout_seconds=seconds), SettingsError)


# What goes wrong.


def test_a_source_without_a_change_feed_gets_the_statement_that_cures_it(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    workspace.unity.remove("tables", SOURCE)
    workspace.add_table(SOURCE)
    message, hint = failure(lambda: make(ready, SPEC, PLACE, patience))
    assert message == f"{NAME} was not created: Change Data Feed is not enabled on {SOURCE}."
    assert hint == f"ALTER TABLE {SOURCE} SET TBLPROPERTIES (delta.enableChangeDataFeed = true)"
    whole = replace(SPEC, mode="snapshot")
    assert make(ready, whole, PLACE, patience) == (True, ONLINE)


def test_the_statement_quotes_what_needs_it(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    workspace.add_schema("caspersdev.s")
    workspace.add_table("caspersdev.s.o`brien")
    spec = replace(SPEC, source="s.o`brien")
    _, hint = failure(lambda: make(ready, spec, PLACE, patience))
    assert hint.startswith("ALTER TABLE `caspersdev`.`s`.`o``brien` SET")


def test_a_missing_change_feed_may_show_late(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    said = "Table has no change data feed (delta.enableChangeDataFeed)."
    workspace.lakebase.fails = {"error_code": "INVALID_STATE", "message": said}
    message, hint = failure(lambda: make(ready, SPEC, PLACE, patience))
    assert message.endswith(said)
    assert hint.startswith("ALTER TABLE")
    workspace.lakebase.fails, workspace.lakebase.message = None, said
    workspace.lakebase.states = ["SYNCED_TABLE_OFFLINE_FAILED"]
    message, hint = failure(lambda: make(ready, SPEC, PLACE, patience))
    assert message == f"{NAME} has failed: {said}"
    assert hint.startswith("ALTER TABLE")


def test_a_failed_table_without_a_word_is_still_an_error(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    workspace.lakebase.states = ["SYNCED_TABLE_OFFLINE_FAILED"]
    message, _ = failure(lambda: make(ready, SPEC, PLACE, patience))
    assert message == f"{NAME} has failed: SYNCED_TABLE_OFFLINE_FAILED"


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "NEWER_THAN_THE_SDK", None])
def test_an_operation_that_fails(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience, code: str | None
) -> None:
    workspace.lakebase.fails = {"error_code": code, "message": "too many\n tables\x1b[31m"}
    message, hint = failure(lambda: make(ready, SPEC, PLACE, patience))
    assert message == f"{NAME} was not created: too many tables?[31m"
    assert ("later" in hint) == (code == "RESOURCE_EXHAUSTED")


def test_an_operation_without_a_name_is_an_error(
    ready: WorkspaceClient, workspace: LoopbackWorkspace
) -> None:
    workspace.next_time(f"POST {API}/synced_tables", b'{"done": true}')
    message, _ = failure(lambda: create_synced_table(ready, SPEC, PLACE))
    assert "named no operation" in message


def test_somebody_who_is_not_logged_in(
    connect: Callable[[str], WorkspaceClient], workspace: LoopbackWorkspace
) -> None:
    stranger = connect("wrong-secret")
    message, hint = failure(lambda: create_synced_table(stranger, SPEC, PLACE))
    assert message == f"{NAME} can't be read: Invalid access token"
    assert "databricks auth login" in hint
    message, _ = failure(lambda: delete_synced_table(stranger, TABLE))
    assert message == f"{NAME} was not deleted: Invalid access token"
    assert len(workspace.calls) == 2


@pytest.mark.parametrize("call", [f"GET {API}/{NAME}", f"POST {API}/synced_tables"])
def test_somebody_who_may_not(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience, call: str
) -> None:
    no = Refused(403, "PERMISSION_DENIED", "User lacks USE CATALOG")
    workspace.next_time(call, no)
    message, hint = failure(lambda: make(ready, SPEC, PLACE, patience))
    assert message.endswith(": User lacks USE CATALOG")
    assert "permission" in hint


def test_missing_neighbours_are_named(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    nowhere = replace(PLACE, catalog="nowhere")
    message, hint = failure(lambda: make(ready, SPEC, nowhere, patience))
    assert message.endswith("was not created: Catalog 'nowhere' does not exist.")
    assert "exist and" in hint
    workspace.unity.remove("tables", SOURCE)
    message, _ = failure(lambda: make(ready, SPEC, PLACE, patience))
    assert message.endswith(f"{SOURCE} does not exist")


def test_throttling_is_waited_out(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience, clock: FakeTime
) -> None:
    clock.slept.clear()
    slow = Refused(429, "REQUEST_LIMIT_EXCEEDED", "slow down", Retry_After="7")
    workspace.next_time(f"POST {API}/synced_tables", slow, slow)
    assert make(ready, SPEC, PLACE, patience) == (True, ONLINE)
    assert [int(pause) for pause in clock.slept[:2]] == [7, 7]


def test_throttling_without_an_end_is_an_error(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    slow = Refused(429, "REQUEST_LIMIT_EXCEEDED", "slow down", Retry_After="100")
    workspace.next_time(f"POST {API}/synced_tables", *[slow] * 9)
    message, hint = failure(lambda: make(ready, SPEC, PLACE, patience))
    assert message == f"{NAME} was not created: Timed out after 0:05:00 (slow down)"
    assert "later" in hint


def test_a_request_that_was_sent_twice_creates_once(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    make(ready, SPEC, PLACE, patience)
    workspace.next_time(f"GET {API}/{NAME}", Refused(404, "NOT_FOUND", "before"))
    slow = Refused(503, "TEMPORARILY_UNAVAILABLE", "the answer was lost")
    workspace.next_time(f"POST {API}/synced_tables", slow)
    assert make(ready, SPEC, PLACE, patience) == (False, ONLINE)


@pytest.mark.parametrize("page", [b"<html>Please log in</html>", b'{"create_time": "yesterday"}'])
def test_an_answer_that_can_not_be_read_is_an_error(
    client: WorkspaceClient, workspace: LoopbackWorkspace, page: bytes
) -> None:
    workspace.next_time(f"GET {API}/{NAME}", page)
    message, _ = failure(lambda: create_synced_table(client, SPEC, PLACE))
    assert message.startswith(f"{NAME} can't be read: ")


def test_a_workspace_that_is_down_is_an_error(
    client: WorkspaceClient, workspace: LoopbackWorkspace
) -> None:
    down = Refused(503, "TEMPORARILY_UNAVAILABLE", "down", Retry_After="200")
    workspace.next_time(f"GET {API}/{NAME}", *[down] * 9)
    message, hint = failure(lambda: create_synced_table(client, SPEC, PLACE))
    assert "(down)" in message
    assert "later" in hint


def test_a_long_message_is_cut(ready: WorkspaceClient, workspace: LoopbackWorkspace) -> None:
    workspace.next_time(f"POST {API}/synced_tables", Refused(400, "BAD_REQUEST", "x" * 10_000))
    message, hint = failure(lambda: create_synced_table(ready, SPEC, PLACE))
    assert len(message) < 400
    assert "page in the workspace" in hint


# Deleting.


@pytest.mark.parametrize(
    ("code", "is_done"),
    [("NOT_FOUND", True), ("RESOURCE_DOES_NOT_EXIST", True), ("INTERNAL_ERROR", False)],
)
def test_a_deletion_that_found_nothing_is_done(
    ready: WorkspaceClient,
    workspace: LoopbackWorkspace,
    patience: Patience,
    code: str,
    is_done: bool,
) -> None:
    make(ready, SPEC, PLACE, patience)
    workspace.lakebase.fails = {"error_code": code, "message": "no"}
    if is_done:
        assert delete_synced_table(ready, TABLE, patience=patience)
    else:
        message, _ = failure(lambda: delete_synced_table(ready, TABLE, patience=patience))
        assert message == f"{NAME} was not deleted: no"


def test_an_operation_that_goes_with_its_table_was_done(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    make(ready, SPEC, PLACE, patience)
    operation = f"{NAME}/operations/{UUID(int=len(workspace.lakebase.operations) + 1)}"
    workspace.next_time(f"GET {API}/{operation}", Refused(404, "NOT_FOUND", "no such operation"))
    assert delete_synced_table(ready, TABLE, patience=patience)
    assert asked(workspace)[-2:] == [f"GET {operation}", f"GET {NAME}"]


def test_an_operation_that_is_lost_while_its_table_stays_is_no_deletion(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    make(ready, SPEC, PLACE, patience)
    lost = f'{{"name": "{NAME}/operations/{UUID(int=999)}"}}'.encode()
    workspace.next_time(f"DELETE {API}/{NAME}", lost)
    message, _ = failure(lambda: delete_synced_table(ready, TABLE, patience=patience))
    assert message == f"{NAME} was not deleted within 60 seconds."


def test_a_deletion_that_never_ends(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    make(ready, SPEC, PLACE, patience)
    workspace.lakebase.polls = 10**6
    message, _ = failure(lambda: delete_synced_table(ready, TABLE, patience=patience))
    assert message == f"{NAME} was not deleted within 60 seconds."


# Status.


def test_the_status_is_what_the_service_says(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    assert synced_table_status(ready, TABLE) is None
    make(ready, SPEC, PLACE, patience)
    said = workspace.lakebase.resources[NAME].setdefault("status", {})
    online = "SYNCED_TABLE_ONLINE_CONTINUOUS_UPDATE"

    def status(moment: datetime | None, version: int | None) -> SyncedTableStatus:
        return SyncedTableStatus(
            name=NAME, state=online, message="", last_sync_time=moment, commit_version=version
        )

    assert synced_table_status(ready, TABLE) == status(None, None)
    said["last_sync"] = {
        "sync_end_time": "2026-11-02T03:04:05Z",
        "delta_table_sync_info": {"delta_commit_version": 11},
    }
    assert synced_table_status(ready, TABLE) == status(
        datetime(2026, 11, 2, 3, 4, 5, tzinfo=UTC), 11
    )
    said |= {"last_sync_time": "2026-11-02T03:04:06.5Z", "last_processed_commit_version": 0}
    later = datetime(2026, 11, 2, 3, 4, 6, 500_000, tzinfo=UTC)
    assert synced_table_status(ready, TABLE) == status(later, 0)


def test_a_state_that_the_sdk_does_not_know_is_empty(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    make(ready, SPEC, PLACE, patience)
    workspace.lakebase.states = ["SYNCED_TABLE_NEWER_THAN_THE_SDK"]
    workspace.lakebase.message = "well"
    status = synced_table_status(ready, TABLE)
    assert status and (status.state, status.message) == ("", "well")


# The stand-in and the package.


def test_the_stand_in_refuses_what_it_does_not_know(
    ready: WorkspaceClient, workspace: LoopbackWorkspace
) -> None:
    api = ready.api_client
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", f"{API}/instances/x", {}),
        ("PUT", f"{API}/projects/x", {}),
        ("POST", f"{API}/projects", {"query": {"project_id": "x", "force": True}}),
        ("POST", f"{API}/projects", {"query": {"project_id": "x"}, "body": {}}),
        ("POST", f"{API}/projects", {"query": {"project_id": "x"}, "body": {"spec": {"a": 1}}}),
        ("POST", f"{API}/projects", {"query": {"project_id": "X"}}),
        ("DELETE", f"{API}/projects/x", {}),
    ]
    for method, path, more in calls:
        with pytest.raises(OSError, match=r"No API|unknown|missing|project_id is|not exist"):
            api.do(method, path, **more)
    assert not [name for name in workspace.lakebase.resources if name.endswith("projects/x")]


def test_importing_it_loads_no_sdk() -> None:
    check = "import sys, caspers_lib.lakebase.managed; print('databricks' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
