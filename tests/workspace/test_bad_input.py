"""What can be wrong in a workspace: one sentence that says what to do, and an account that is true.

Each task meets each trouble on the wire, and gets through once it is cured.
"""

import itertools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any

import pytest
from databricks.sdk.service.serving import EndpointCoreConfigInput

from caspers_lib.errors import CaspersError, ReplayLockedError
from caspers_lib.runtime.settings import Settings
from caspers_lib.runtime.task_graph import checked_graph, target_tasks
from caspers_lib.workspace import Workspace, destroy_workspace
from caspers_lib.workspace.resource_kinds import KINDS
from caspers_lib.workspace.resource_state import Resource
from caspers_lib.workspace_calls import Patience
from tests.bundle.shipped import shipped
from tests.standins.paper_lakehouse import PaperLakehouse
from tests.workspace.conftest import World, add_lakeflow_tables
from tests.workspace_fake import Refused

MakeWorld = Callable[..., World]
TASKS = tuple(checked_graph(target_tasks("all")))
ENDPOINT = "caspers_refund_agent"
APP = "caspers-refunds"


def refused(call: Callable[[], object]) -> CaspersError:
    """The error of a call: one sentence, and what to do."""
    with pytest.raises(CaspersError) as caught:
        call()
    error = caught.value
    assert error.message
    assert error.hint
    assert "\n" not in error.message + error.hint
    assert len(error.message) < 500
    return error


def made(world: World) -> dict[str, dict[str, Any]]:
    """What the tasks make, by kind and name, as the workspace has it."""
    said = world.loopback.snapshot()
    kinds = ("functions", "models", "serving_endpoints")
    found = {kind: dict(said.get(kind, {})) for kind in kinds}
    found["synced"] = {
        name: each for name, each in said.get("lakebase", {}).items() if "synced_tables/" in name
    }
    jobs = [job["settings"] for job in said.get("jobs", {}).values()]
    found["schedules"] = {job["name"]: job for job in jobs if "(caspersdev_all)" in job["name"]}
    found["tables"] = {
        name: table
        for name, table in said.get("tables", {}).items()
        if not name.startswith("caspersdev_all.lakeflow.")
    }
    return found


def of_tasks(world: World) -> list[Resource]:
    return [row for row in world.workspace().ledger.rows() if row.owner == "task"]


def check_account(world: World) -> None:
    """What is on record as there is there; what is there is on record."""
    rows = world.workspace().ledger.rows()
    for row in rows:
        if row.owner == "task" and row.status in {"ready", "found"}:
            assert KINDS[row.kind].is_there(world.client, row.name), row
    on_record = {row.name for row in rows if row.status != "deleted"}
    there = {name.rpartition("/")[2] for each in made(world).values() for name in each}
    assert there <= on_record


def check_account_but(world: World, theirs: dict[str, dict[str, Any]]) -> None:
    """The same, where some things are somebody else's."""
    on_record = {row.name for row in world.workspace().ledger.rows() if row.status != "deleted"}
    there = {name.rpartition("/")[2] for _, name in names(made(world)) - names(theirs)}
    assert there <= on_record


def names(things: dict[str, dict[str, Any]]) -> set[tuple[str, str]]:
    return {(kind, name) for kind, each in things.items() for name in each}


def error_of(call: Callable[[], object]) -> CaspersError | None:
    try:
        call()
    except CaspersError as error:
        return error
    return None


@pytest.fixture(scope="module")
def smooth() -> dict[str, Any]:
    """What a deployment without trouble makes; filled by the first test that needs it."""
    return {}


@pytest.fixture
def expected(smooth: dict[str, Any], make_world: MakeWorld) -> dict[str, Any]:
    if not smooth:
        world = make_world(shipped())
        world.deploy()
        smooth.update(made(world))
    return smooth


@contextmanager
def each_change_refused(world: World, refusal: Refused) -> Iterator[list[str]]:
    """Each call that changes something is refused when it is made first; which ones so far."""
    api: Any = world.client.api_client
    ask, seen = api.do, list[str]()

    def refusing(method: str, path: str, *words: Any, **more: Any) -> Any:
        call = f"{method} {path} {more.get('query')} {str(more.get('body'))[:200]}"
        if method != "GET" and call not in seen:
            seen.append(call)
            world.loopback.next_time(f"{method} {path}", refusal)
        return ask(method, path, *words, **more)

    api.do = refusing
    yield seen
    api.do = ask


# Nobody is logged in.


def test_without_credentials_nothing_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [n for n in os.environ if n.startswith("DATABRICKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    nobody: Any = None
    error = refused(lambda: Workspace.here(Settings(), nobody))
    assert error.message.startswith("No login to a Databricks workspace: ")
    assert error.hint.startswith("Log in: databricks auth login")


def test_a_token_that_is_not_valid_any_more_stops_each_task_before_it_makes_anything(
    make_world: MakeWorld, expected: dict[str, Any]
) -> None:
    world = make_world(shipped())
    for task in TASKS:
        before, rows = made(world), of_tasks(world)
        token, world.loopback.token = world.loopback.token, "another one"
        assert refused(lambda task=task: world.run(task)).hint.startswith("Log in: ")  # type: ignore[misc]
        world.loopback.token = token
        assert (made(world), of_tasks(world)) == (before, rows)
        world.run(task)
    assert made(world) == expected


# A change is refused.


@pytest.mark.parametrize(
    ("refusal", "hint"),
    [
        (Refused(401, "UNAUTHENTICATED", "The access token has expired"), "Log in again: "),
        (
            Refused(403, "PERMISSION_DENIED", "User does not have CREATE on 'x'"),
            "Ask an administrator for the permission",
        ),
        (
            Refused(400, "RESOURCE_LIMIT_EXCEEDED", "The limit of 10 is reached"),
            "Remove what nobody needs or ask an administrator for more",
        ),
    ],
    ids=["expired", "forbidden", "quota"],
)
def test_whatever_change_is_refused_the_account_is_true_and_the_next_run_goes_on(
    make_world: MakeWorld, expected: dict[str, Any], refusal: Refused, hint: str
) -> None:
    world, met = make_world(shipped()), set[str]()
    with each_change_refused(world, refusal) as changes:
        for task in TASKS:
            while (error := error_of(lambda task=task: world.run(task))) is not None:  # type: ignore[misc]
                assert re.search(hint, error.hint), changes[-1]
                assert re.search(re.escape(refusal.body["message"]), error.message)
                check_account(world)
                met.add(task)
    assert len(changes) > 20
    reading = {task for task in TASKS if "Stream" in task or "App" in task}
    assert met == set(TASKS) - reading
    assert made(world) == expected


# A name is somebody else's.


def endpoint_of_theirs(world: World) -> None:
    world.loopback.add_schema("theirs.ml")
    world.loopback.add_model_version("theirs.ml.model")
    entity = {"entity_name": "theirs.ml.model", "entity_version": "1", "workload_size": "Small"}
    config = EndpointCoreConfigInput.from_dict({"served_entities": [entity]})
    world.client.serving_endpoints.create_and_wait(ENDPOINT, config=config)


TAKEN: dict[tuple[str, str], Callable[[World], object]] = {
    ("serving_endpoint", ENDPOINT): endpoint_of_theirs,
    ("schedule", "Canonical Data Replay (caspersdev_all)"): lambda world: world.client.jobs.create(
        name="Canonical Data Replay (caspersdev_all)"
    ),
    ("registered_model", "caspersdev_all.ai.refund_agent"): lambda world: (
        world.loopback.add_model_version("caspersdev_all.ai.refund_agent")
    ),
    ("function", "caspersdev_all.ai.get_order_timing"): lambda world: world.loopback.add_function(
        "caspersdev_all.ai.get_order_timing", "2"
    ),
}


@pytest.mark.parametrize("taken", TAKEN, ids=lambda taken: taken[0])
def test_what_is_somebody_elses_is_named_and_left_alone(
    make_world: MakeWorld, expected: dict[str, Any], taken: tuple[str, str]
) -> None:
    world, (kind, name) = make_world(shipped()), taken
    TAKEN[taken](world)
    theirs = made(world)
    error = refused(world.deploy)
    assert error.message == (
        f"The {kind.replace('_', ' ')} {name} exists and is not on record as made by this target."
    )
    assert error.hint.startswith("Choose another name, or delete it")
    assert world.workspace().ledger.row(kind, name) is None
    check_account_but(world, theirs)

    assert destroy_workspace(world.workspace()).removal.is_complete
    assert made(world) == theirs
    no_wait = Patience(timeout_seconds=600, sleep=lambda _seconds: None)
    KINDS[kind].remove(world.client, name, no_wait)
    world.deploy()
    check_account_but(world, theirs)
    assert names(expected) <= names(made(world)) <= names(expected) | names(theirs)


def test_what_is_somebody_elses_and_can_not_be_seen_is_never_taken_for_ours(
    make_world: MakeWorld,
) -> None:
    world, task, (kind, name) = (
        make_world(shipped()),
        "Refund_Recommender_Agent",
        ("serving_endpoint", ENDPOINT),
    )
    look = f"GET /api/2.0/serving-endpoints/{ENDPOINT}"
    endpoint_of_theirs(world)
    theirs = made(world)
    for before in TASKS[: TASKS.index(task)]:
        world.run(before)
    # Before it is made, when it is made, and when the service says that it exists.
    unseen = [Refused(404, "RESOURCE_DOES_NOT_EXIST", f"{name} does not exist")] * 3
    world.loopback.next_time(look, *unseen)
    assert "exist" in refused(lambda: world.run(task)).message
    row = world.workspace().ledger.row(kind, name)
    assert row
    assert row.status == "deleted"
    assert destroy_workspace(world.workspace()).removal.is_complete
    assert made(world) == theirs


def test_a_table_that_was_there_is_used_and_outlives_the_removal(make_world: MakeWorld) -> None:
    world = make_world(shipped())
    table = "caspersdev_all.recommender.refund_recommendations"
    world.loopback.add_table(table, change_feed=True)
    world.deploy()
    row = world.workspace().ledger.row("table", table)
    assert row
    assert row.status == "found"
    removal = destroy_workspace(world.workspace()).removal
    assert removal.is_complete
    assert table in {each.name for each in removal.kept}
    assert list(made(world)["tables"]) == [table]


# Something never gets ready, or fails.


def slow(looks: int) -> Callable[[World], None]:
    """Whatever begins from now on takes so many looks."""
    return lambda world: setattr(world.loopback.common, "looks", looks)


def pipeline_without_tables(world: World) -> None:
    world.loopback.pipelines.run_update = lambda _pipeline: None
    world.loopback.common.looks = 700


def stopped_app(world: World) -> None:
    world.client.apps.stop(APP)


def slow_operations(world: World) -> None:
    world.loopback.lakebase.polls = 1000


def slow_tables(world: World) -> None:
    world.loopback.lakebase.states = ["SYNCED_TABLE_PROVISIONING_INITIAL_SNAPSHOT"]


def failing_endpoint(world: World) -> None:
    world.loopback.serving.fails = "There is no GPU left"


def cure(world: World) -> None:
    add_lakeflow_tables(world.loopback)
    world.loopback.common.looks = 1
    world.loopback.lakebase.polls = 2
    world.loopback.lakebase.states = ["SYNCED_TABLE_ONLINE_CONTINUOUS_UPDATE"]
    world.loopback.serving.fails = ""
    world.client.apps.start(APP)


@pytest.mark.parametrize(
    ("task", "trouble", "said", "kind"),
    [
        ("Spark_Declarative_Pipeline", pipeline_without_tables, "is not up to date within", None),
        ("Refund_Recommender_Agent", slow(2500), "not serve .* timed out", "serving_endpoint"),
        ("Complaint_Agent", failing_endpoint, "not serve .*UPDATE_FAILED", "serving_endpoint"),
        ("Lakebase_Reverse_ETL", slow_operations, "was not created within", "synced_table"),
        ("Complaint_Lakebase", slow_tables, "was not provisioned within", "synced_table"),
        ("Databricks_App_Refund_Manager", stopped_app, "is stopped", None),
    ],
    ids=["pipeline", "endpoint", "endpoint that fails", "creation", "first copy", "app"],
)
def test_what_never_gets_ready_is_an_error_and_the_next_run_goes_on(
    make_world: MakeWorld,
    expected: dict[str, Any],
    task: str,
    trouble: Callable[[World], None],
    said: str,
    kind: str | None,
) -> None:
    world = make_world(shipped())
    for before in TASKS[: TASKS.index(task)]:
        world.run(before)
    trouble(world)
    error = refused(lambda: world.run(task))
    assert re.search(said, error.message)
    assert re.search("the same call goes on|run this again", error.hint)
    check_account(world)
    under_way = {row.kind for row in world.workspace().ledger.rows() if row.status == "creating"}
    assert under_way == ({kind} if kind else set())
    cure(world)
    world.deploy()
    check_account(world)
    assert names(made(world)) == names(expected)
    assert {row.status for row in world.workspace().ledger.rows()} == {"ready"}


# The catalog.


def test_a_catalog_that_is_not_there_stops_everything(make_world: MakeWorld) -> None:
    world = make_world()
    before = world.loopback.snapshot()
    catalogs = [SimpleNamespace(name=name) for name in ("main", "system")]
    spark: Any = SimpleNamespace(catalog=SimpleNamespace(listCatalogs=lambda: catalogs))
    settings = Settings(catalog="nowhere")
    error = refused(lambda: Workspace.here(settings, spark, client=world.client))
    assert error.message == "The catalog nowhere doesn't exist, or you may not use it."
    assert error.hint.startswith("Set CATALOG")
    assert world.loopback.snapshot() == before


# What the bundle tells.


@pytest.mark.parametrize("told", ["jobs.replay", "jobs.replay=", "replay=1", "a.b.c=1"])
def test_what_the_bundle_did_not_tell_is_asked_for(make_world: MakeWorld, told: str) -> None:
    world = make_world(shipped())
    world.settings = world.settings.model_copy(update={"declared": told})
    error = refused(lambda: world.run("Canonical_Data"))
    assert error.message == f"DECLARED has {told!r}"
    world.settings = world.settings.model_copy(update={"declared": "", "declared_refunds": ""})
    error = refused(lambda: world.run("Lakebase_Reverse_ETL"))
    assert error.message == "The bundle declares no postgres_projects.refunds"
    error = refused(lambda: world.run("Databricks_App_Refund_Manager"))
    assert error.message == "The bundle declares no apps.refund_manager"


# Another run holds the replay's lock.


def test_the_data_waits_for_a_replay_that_writes(make_world: MakeWorld) -> None:
    world, tick = make_world(shipped()), PaperLakehouse.tick
    busy = iter([True, True])

    def locked(paper: PaperLakehouse, now: float) -> int:
        if next(busy, False):
            raise ReplayLockedError("Another run writes events", hint="Wait for it.")
        return tick(paper, now)

    world.paper.tick = MethodType(locked, world.paper)  # type: ignore[method-assign]
    assert world.run("Canonical_Data").done == "12,345 events written"
    busy = iter(itertools.repeat(True))
    error = refused(lambda: world.run("Canonical_Data"))
    assert error.message == "Another run writes events: it did not end within 600 seconds."
