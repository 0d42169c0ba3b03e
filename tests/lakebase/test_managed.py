"""Managed synced tables: the SDK itself against a stand-in for the workspace."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.clock import Clock
from databricks.sdk.config import Config

from caspers_lib.errors import SettingsError
from caspers_lib.lakebase.managed import (
    ManagedOutcome,
    Patience,
    SyncedTableStatus,
    create_synced_table,
    delete_managed,
    ensure_catalog,
    ensure_project,
    production_branch,
    project_id,
    synced_table_status,
)
from caspers_lib.testing.workspace import API, TOKEN, LoopbackWorkspace, Refused
from tests.lakebase.test_managed_request import (
    BRANCH,
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


class FakeTime(Clock):
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


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


def asked(workspace: LoopbackWorkspace) -> list[str]:
    """The calls, each as method, resource name and query; operations without their own ids."""
    return [
        " ".join(
            (
                call.method,
                re.sub("[0-9a-f-]{36}$", "…", call.path.removeprefix(f"{API}/")),
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
def ready(
    client: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> WorkspaceClient:
    """A workspace with the project and the catalog."""
    ensure_project(client, PROJECT, patience=patience)
    ensure_catalog(client, "refunds_pg", branch=BRANCH, database="caspers", patience=patience)
    workspace.calls.clear()
    return client


# Creating, again, and deleting.


def test_created_twice_and_deleted_these_calls_are_made(
    client: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    def create() -> list[tuple[str, str, str]]:
        outcomes = [
            ensure_project(client, PROJECT, patience=patience),
            ensure_catalog(
                client, "refunds_pg", branch=BRANCH, database="caspers", patience=patience
            ),
            create_synced_table(client, SPEC, PLACE, patience=patience),
        ]
        return [(o.name, o.done, o.status) for o in outcomes]

    online = "SYNCED_TABLE_ONLINE_CONTINUOUS_UPDATE"
    assert create() == [
        (f"projects/{PROJECT}", "created", ""),
        ("catalogs/refunds_pg", "created", ""),
        (NAME, "created", online),
    ]
    assert [(o[1], o[2]) for o in create()] == [("exists", ""), ("exists", ""), ("exists", online)]
    deleted = delete_managed(
        client, synced_tables=[TABLE], catalog="refunds_pg", project=PROJECT, patience=patience
    )
    assert [o.done for o in deleted] == ["deleted"] * 3
    assert asked(workspace) == [
        f"GET projects/{PROJECT}",
        f"POST projects project_id={PROJECT}",
        f"GET projects/{PROJECT}/operations/…",
        f"GET projects/{PROJECT}/operations/…",
        "GET catalogs/refunds_pg",
        "POST catalogs catalog_id=refunds_pg",
        "GET catalogs/refunds_pg/operations/…",
        "GET catalogs/refunds_pg/operations/…",
        f"GET {NAME}",
        f"POST synced_tables synced_table_id={TABLE}",
        f"GET {NAME}/operations/…",
        f"GET {NAME}/operations/…",
        f"GET {NAME}",
        # again
        f"GET projects/{PROJECT}",
        "GET catalogs/refunds_pg",
        f"GET {NAME}",
        f"GET {NAME}",
        # gone
        f"DELETE {NAME}",
        f"GET {NAME}/operations/…",
        f"GET {NAME}/operations/…",
        "DELETE catalogs/refunds_pg",
        "GET catalogs/refunds_pg/operations/…",
        "GET catalogs/refunds_pg/operations/…",
        f"DELETE projects/{PROJECT} purge=true",
        f"GET projects/{PROJECT}/operations/…",
        f"GET projects/{PROJECT}/operations/…",
    ]
    assert workspace.lakebase.resources == {}


def test_what_is_sent(
    client: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    ensure_project(client, "Casper's", pg_version=16, patience=patience)
    branch = production_branch(project_id("Casper's"))
    ensure_catalog(client, "c", branch=branch, database="d", patience=patience)
    assert workspace.bodies == [
        {"spec": {"display_name": "Casper's", "pg_version": 16}},
        {"spec": {"branch": branch, "postgres_database": "d", "create_database_if_missing": True}},
    ]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("source_table_full_name", "x.y.z", "source_table_full_name is x.y.z, not caspersdev"),
        ("primary_key_columns", ["id"], "primary_key_columns is ['id'], not ['order_id']"),
        ("scheduling_policy", "SNAPSHOT", "scheduling_policy is SNAPSHOT, not CONTINUOUS"),
        ("branch", "projects/x/branches/production", "branch is projects/x/branches/production"),
        ("postgres_database", "other", "postgres_database is other, not caspers"),
        ("extra_columns", [{"column_name": "a", "column_type": "text"}], "extra_columns is"),
    ],
)
def test_a_table_that_says_it_is_another_one_is_left_alone(
    ready: WorkspaceClient,
    workspace: LoopbackWorkspace,
    patience: Patience,
    field: str,
    value: object,
    said: str,
) -> None:
    create_synced_table(ready, SPEC, PLACE, patience=patience)
    answer = {"name": NAME, "spec": {field: value}}
    workspace.next_time(f"GET {API}/{NAME}", json.dumps(answer).encode())
    workspace.calls.clear()
    message, hint = refused(lambda: create_synced_table(ready, SPEC, PLACE, patience=patience))
    assert said in message
    assert "left alone" in hint
    assert asked(workspace) == [f"GET {NAME}"]


def test_a_table_of_another_project_is_left_alone(
    ready: WorkspaceClient, patience: Patience
) -> None:
    create_synced_table(ready, SPEC, PLACE, patience=patience)
    elsewhere = replace(PLACE, branch="projects/other/branches/production")
    message, _ = refused(lambda: create_synced_table(ready, SPEC, elsewhere, patience=patience))
    assert f"project is projects/{PROJECT}, not projects/other" in message


def test_what_the_service_does_not_tell_makes_no_other_table(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    create_synced_table(ready, SPEC, PLACE, patience=patience)
    assert ready.postgres.get_synced_table(NAME).spec is None
    assert create_synced_table(ready, SPEC, PLACE, patience=patience).done == "exists"
    told = {
        "source_table_full_name": "caspersdev.Recommender.Refund_Recommendations",
        "scheduling_policy": "NEWER_THAN_THE_SDK",
        "existing_pipeline_id": "p-1",
    }
    workspace.next_time(f"GET {API}/{NAME}", json.dumps({"name": NAME, "spec": told}).encode())
    assert create_synced_table(ready, SPEC, PLACE, patience=patience).done == "exists"


def test_somebody_who_is_faster_is_no_error(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    create_synced_table(ready, SPEC, PLACE, patience=patience)
    workspace.next_time(f"GET {API}/{NAME}", Refused(404, "NOT_FOUND", "not yet"))
    assert create_synced_table(ready, SPEC, PLACE, patience=patience).done == "exists"


@pytest.mark.parametrize(
    "taken",
    [
        Refused(409, "CATALOG_ALREADY_EXISTS", "Catalog 'c' already exists"),
        Refused(400, "CATALOG_ALREADY_EXISTS", "Catalog 'c' already exists"),
    ],
)
def test_a_name_that_something_else_has_is_an_error(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience, taken: Refused
) -> None:
    workspace.next_time(f"POST {API}/catalogs", taken)
    message, hint = failure(
        lambda: ensure_catalog(ready, "c", branch=BRANCH, database="d", patience=patience)
    )
    assert message == "catalogs/c was not created: Catalog 'c' already exists"
    assert "this name" in hint
    assert asked(workspace) == ["GET catalogs/c", "POST catalogs catalog_id=c", "GET catalogs/c"]


@pytest.mark.parametrize("branch", [BRANCH, "projects/other/branches/production"])
def test_a_catalog_of_another_database_is_left_alone(
    ready: WorkspaceClient, patience: Patience, branch: str
) -> None:
    message, _ = refused(
        lambda: ensure_catalog(ready, "refunds_pg", branch=branch, database="x", patience=patience)
    )
    assert f"database caspers of {BRANCH}, not x of {branch}" in message
    other = "projects/other/branches/production"
    refused(
        lambda: ensure_catalog(
            ready, "refunds_pg", branch=other, database="caspers", patience=patience
        )
    )


def test_a_project_of_another_version_or_one_that_is_deleted_is_not_taken(
    ready: WorkspaceClient, patience: Patience
) -> None:
    message, _ = refused(lambda: ensure_project(ready, PROJECT, pg_version=16, patience=patience))
    assert "exists with PostgreSQL 17, not 16" in message
    delete_managed(ready, catalog="refunds_pg", patience=patience)
    ready.postgres.delete_project(f"projects/{PROJECT}")
    message, hint = refused(lambda: ensure_project(ready, PROJECT, patience=patience))
    assert "was deleted, but not purged" in message
    assert "delete_managed" in hint


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_reach_no_service(
    client: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience, name: str
) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: ensure_catalog(client, name, branch=BRANCH, database="d", patience=patience),
        lambda: ensure_catalog(client, "c", branch=name, database="d", patience=patience),
        lambda: ensure_catalog(client, "c", branch=BRANCH, database=name, patience=patience),
        lambda: delete_managed(client, synced_tables=[TABLE, f"c.s.{name}"], patience=patience),
        lambda: delete_managed(client, synced_tables=[TABLE, f"{name}.s.t"], patience=patience),
        lambda: delete_managed(client, synced_tables=[TABLE], catalog=name, patience=patience),
        lambda: delete_managed(client, synced_tables=[TABLE], project=name, patience=patience),
        lambda: synced_table_status(client, name),
        lambda: synced_table_status(client, f"c.{name}.t"),
    ]
    for call in calls:
        refused(call, SettingsError)
    assert asked(workspace) == []


def test_hostile_names_of_projects_become_ids(
    client: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    outcome = ensure_project(client, "x/../y?purge=true\n<script>", patience=patience)
    assert outcome.name in workspace.lakebase.resources
    assert workspace.bodies[0]["spec"]["display_name"] == "x/../y?purge=true\n<script>"


# Waiting.


def test_a_wait_ends_at_its_time_and_the_same_call_goes_on(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience, clock: FakeTime
) -> None:
    workspace.lakebase.polls = 10**6
    clock.slept.clear()
    message, hint = failure(lambda: create_synced_table(ready, SPEC, PLACE, patience=patience))
    assert message == f"{NAME} was not created within 60 seconds."
    assert "goes on" in hint
    assert sum(clock.slept) == pytest.approx(60)
    assert clock.slept[:3] == [1, 2, 3]
    assert max(clock.slept) <= 10
    assert create_synced_table(ready, SPEC, PLACE, patience=patience).done == "exists"


def test_a_table_is_waited_for_until_its_first_copy_is_made(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    workspace.lakebase.states = [
        "SYNCED_TABLE_PROVISIONING",
        "SYNCED_TABLE_PROVISIONING_PIPELINE_RESOURCES",
        "SYNCED_TABLE_PROVISIONING_INITIAL_SNAPSHOT",
        "SYNCED_TABLE_ONLINE_NO_PENDING_UPDATE",
    ]
    outcome = create_synced_table(ready, SPEC, PLACE, patience=patience)
    assert (outcome.done, outcome.status) == ("created", "SYNCED_TABLE_ONLINE_NO_PENDING_UPDATE")
    workspace.lakebase.states = ["SYNCED_TABLE_PROVISIONING"]
    message, _ = failure(lambda: create_synced_table(ready, SPEC, PLACE, patience=patience))
    assert message == f"{NAME} was not provisioned within 60 seconds."


def test_creation_and_first_copy_share_one_time(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience, clock: FakeTime
) -> None:
    workspace.lakebase.polls = 8  # 28 seconds
    workspace.lakebase.states = ["SYNCED_TABLE_PROVISIONING"]
    clock.slept.clear()
    failure(lambda: create_synced_table(ready, SPEC, PLACE, patience=patience))
    assert sum(clock.slept) == pytest.approx(60)


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
    message, hint = failure(lambda: create_synced_table(ready, SPEC, PLACE, patience=patience))
    assert message == f"{NAME} was not created: Change Data Feed is not enabled on {SOURCE}."
    assert hint == f"ALTER TABLE {SOURCE} SET TBLPROPERTIES (delta.enableChangeDataFeed = true)"
    whole = replace(SPEC, mode="snapshot")
    assert create_synced_table(ready, whole, PLACE, patience=patience).done == "created"


def test_the_statement_quotes_what_needs_it(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    workspace.add_schema("caspersdev.s")
    workspace.add_table("caspersdev.s.o`brien")
    spec = replace(SPEC, source="s.o`brien")
    _, hint = failure(lambda: create_synced_table(ready, spec, PLACE, patience=patience))
    assert hint.startswith("ALTER TABLE `caspersdev`.`s`.`o``brien` SET")


def test_a_missing_change_feed_may_show_late(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    said = "Table has no change data feed (delta.enableChangeDataFeed)."
    workspace.lakebase.fails = {"error_code": "INVALID_STATE", "message": said}
    message, hint = failure(lambda: create_synced_table(ready, SPEC, PLACE, patience=patience))
    assert message.endswith(said)
    assert hint.startswith("ALTER TABLE")
    workspace.lakebase.fails, workspace.lakebase.message = None, said
    workspace.lakebase.states = ["SYNCED_TABLE_OFFLINE_FAILED"]
    message, hint = failure(lambda: create_synced_table(ready, SPEC, PLACE, patience=patience))
    assert message == f"{NAME} has failed: {said}"
    assert hint.startswith("ALTER TABLE")


def test_a_failed_table_without_a_word_is_still_an_error(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    workspace.lakebase.states = ["SYNCED_TABLE_OFFLINE_FAILED"]
    message, _ = failure(lambda: create_synced_table(ready, SPEC, PLACE, patience=patience))
    assert message == f"{NAME} has failed: SYNCED_TABLE_OFFLINE_FAILED"


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "NEWER_THAN_THE_SDK", None])
def test_an_operation_that_fails(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience, code: str | None
) -> None:
    workspace.lakebase.fails = {"error_code": code, "message": "too many\n tables\x1b[31m"}
    message, hint = failure(lambda: create_synced_table(ready, SPEC, PLACE, patience=patience))
    assert message == f"{NAME} was not created: too many tables?[31m"
    assert ("later" in hint) == (code == "RESOURCE_EXHAUSTED")


def test_an_operation_without_a_name_is_an_error(
    client: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    workspace.next_time(f"POST {API}/projects", b'{"done": true}')
    message, _ = failure(lambda: ensure_project(client, PROJECT, patience=patience))
    assert "named no operation" in message


def test_somebody_who_is_not_logged_in(
    connect: Callable[[str], WorkspaceClient], workspace: LoopbackWorkspace, patience: Patience
) -> None:
    stranger = connect("wrong-secret")
    message, hint = failure(lambda: ensure_project(stranger, PROJECT, patience=patience))
    assert message == f"projects/{PROJECT} can't be read: Invalid access token"
    assert "databricks auth login" in hint
    message, _ = failure(lambda: delete_managed(stranger, project=PROJECT, patience=patience))
    assert message == f"projects/{PROJECT} was not deleted: Invalid access token"
    assert len(workspace.calls) == 2


@pytest.mark.parametrize("call", [f"GET {API}/{NAME}", f"POST {API}/synced_tables"])
def test_somebody_who_may_not(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience, call: str
) -> None:
    no = Refused(403, "PERMISSION_DENIED", "User lacks USE CATALOG")
    workspace.next_time(call, no)
    message, hint = failure(lambda: create_synced_table(ready, SPEC, PLACE, patience=patience))
    assert message.endswith(": User lacks USE CATALOG")
    assert "permission" in hint


def test_missing_neighbours_are_named(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    nowhere = replace(PLACE, catalog="nowhere")
    message, hint = failure(lambda: create_synced_table(ready, SPEC, nowhere, patience=patience))
    assert message.endswith("was not created: Catalog 'nowhere' does not exist.")
    assert "exist and" in hint
    workspace.unity.remove("tables", SOURCE)
    message, _ = failure(lambda: create_synced_table(ready, SPEC, PLACE, patience=patience))
    assert message.endswith(f"{SOURCE} does not exist")


def test_throttling_is_waited_out(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience, clock: FakeTime
) -> None:
    clock.slept.clear()
    slow = Refused(429, "REQUEST_LIMIT_EXCEEDED", "slow down", Retry_After="7")
    workspace.next_time(f"POST {API}/synced_tables", slow, slow)
    assert create_synced_table(ready, SPEC, PLACE, patience=patience).done == "created"
    assert [int(pause) for pause in clock.slept[:2]] == [7, 7]


def test_throttling_without_an_end_is_an_error(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    slow = Refused(429, "REQUEST_LIMIT_EXCEEDED", "slow down", Retry_After="100")
    workspace.next_time(f"POST {API}/synced_tables", *[slow] * 9)
    message, hint = failure(lambda: create_synced_table(ready, SPEC, PLACE, patience=patience))
    assert message == f"{NAME} was not created: Timed out after 0:05:00 (slow down)"
    assert "later" in hint


def test_a_request_that_was_sent_twice_creates_once(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    create_synced_table(ready, SPEC, PLACE, patience=patience)
    workspace.next_time(f"GET {API}/{NAME}", Refused(404, "NOT_FOUND", "before"))
    slow = Refused(503, "TEMPORARILY_UNAVAILABLE", "the answer was lost")
    workspace.next_time(f"POST {API}/synced_tables", slow)
    assert create_synced_table(ready, SPEC, PLACE, patience=patience).done == "exists"


@pytest.mark.parametrize("page", [b"<html>Please log in</html>", b'{"create_time": "yesterday"}'])
def test_an_answer_that_can_not_be_read_is_an_error(
    client: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience, page: bytes
) -> None:
    workspace.next_time(f"GET {API}/projects/{PROJECT}", page)
    message, _ = failure(lambda: ensure_project(client, PROJECT, patience=patience))
    assert message.startswith(f"projects/{PROJECT} can't be read: ")


def test_a_workspace_that_is_down_is_an_error(
    client: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    down = Refused(503, "TEMPORARILY_UNAVAILABLE", "down", Retry_After="200")
    workspace.next_time(f"GET {API}/projects/{PROJECT}", *[down] * 9)
    message, hint = failure(lambda: ensure_project(client, PROJECT, patience=patience))
    assert "(down)" in message
    assert "later" in hint


def test_a_long_message_is_cut(
    client: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    workspace.next_time(f"POST {API}/projects", Refused(400, "BAD_REQUEST", "x" * 10_000))
    message, hint = failure(lambda: ensure_project(client, PROJECT, patience=patience))
    assert len(message) < 400
    assert "page in the workspace" in hint


# Deleting.


def test_what_is_not_there_counts_as_deleted(
    client: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    outcomes = delete_managed(
        client, synced_tables=[TABLE], catalog="refunds_pg", project=PROJECT, patience=patience
    )
    assert outcomes == (
        ManagedOutcome(name=NAME, done="absent"),
        ManagedOutcome(name="catalogs/refunds_pg", done="absent"),
        ManagedOutcome(name=f"projects/{PROJECT}", done="absent"),
    )
    assert [call.method for call in workspace.calls] == ["DELETE"] * 3
    assert delete_managed(client, patience=patience) == ()


def test_a_deletion_that_fails_stops_before_what_comes_after(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    create_synced_table(ready, SPEC, PLACE, patience=patience)
    no = Refused(403, "PERMISSION_DENIED", "User is not an owner")
    workspace.next_time(f"DELETE {API}/{NAME}", no)
    workspace.calls.clear()
    failure(
        lambda: delete_managed(
            ready, synced_tables=[TABLE], catalog="refunds_pg", project=PROJECT, patience=patience
        )
    )
    assert asked(workspace) == [f"DELETE {NAME}"]


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
    workspace.lakebase.fails = {"error_code": code, "message": "no"}

    def delete() -> tuple[ManagedOutcome, ...]:
        return delete_managed(ready, catalog="refunds_pg", patience=patience)

    if is_done:
        assert delete()[0].done == "deleted"
    else:
        message, _ = failure(delete)
        assert message == "catalogs/refunds_pg was not deleted: no"


def test_an_operation_that_goes_with_its_project_was_done(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    delete_managed(ready, catalog="refunds_pg", patience=patience)
    gone = Refused(404, "NOT_FOUND", "no such operation")
    workspace.next_time(f"GET {API}/projects/{PROJECT}/operations/*", gone)
    assert delete_managed(ready, project=PROJECT, patience=patience)[0].done == "deleted"
    assert asked(workspace)[-2:] == [
        f"GET projects/{PROJECT}/operations/…",
        f"GET projects/{PROJECT}",
    ]


def test_an_operation_that_is_lost_while_its_project_stays_is_no_deletion(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    delete_managed(ready, catalog="refunds_pg", patience=patience)
    name = f"projects/{PROJECT}"
    workspace.next_time(f"DELETE {API}/{name}", b'{"name": "x/operations/lost"}')
    message, _ = failure(lambda: delete_managed(ready, project=PROJECT, patience=patience))
    assert message == f"{name} was not deleted within 60 seconds."


def test_a_deletion_that_never_ends(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    workspace.lakebase.polls = 10**6
    message, _ = failure(lambda: delete_managed(ready, catalog="refunds_pg", patience=patience))
    assert message == "catalogs/refunds_pg was not deleted within 60 seconds."


# Status.


def test_the_status_is_what_the_service_says(
    ready: WorkspaceClient, workspace: LoopbackWorkspace, patience: Patience
) -> None:
    assert synced_table_status(ready, TABLE) is None
    create_synced_table(ready, SPEC, PLACE, patience=patience)
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
    create_synced_table(ready, SPEC, PLACE, patience=patience)
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
        ("DELETE", f"{API}/catalogs/refunds_pg", {"query": {"purge": True}}),
    ]
    for method, path, more in calls:
        with pytest.raises(OSError, match=r"No API|unknown|missing|project_id is"):
            api.do(method, path, **more)
    assert len(workspace.lakebase.resources) == 4


def test_importing_it_loads_no_sdk() -> None:
    check = "import sys, caspers_lib.lakebase.managed; print('databricks' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
