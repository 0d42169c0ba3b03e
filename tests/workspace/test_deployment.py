"""A deployment of every task to a workspace, again, and its removal: the real SDK throughout."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from caspers_lib.runtime.task_graph import checked_graph, target_tasks
from caspers_lib.workspace import destroy_workspace
from tests.bundle.shipped import shipped
from tests.workspace.conftest import APP_ROLE, World

GOLDEN = Path(__file__).parent / "golden" / "deploy_and_destroy_all.txt"
MakeWorld = Callable[..., World]


def names(snapshot: dict[str, Any]) -> dict[str, list[str]]:
    """What exists, by kind; not the numbers that a second attempt counts on.

    An end between logging a model and saying so leaves one version more, which its model takes
    along: mlflow has no way to ask whether a version is the one that was being logged.
    """
    return {
        kind: sorted({re.sub(r"[-/]?\d+$", "", str(name)) for name in each})
        for kind, each in snapshot.items()
    }


def without_gains(snapshot: dict[str, Any]) -> dict[str, Any]:
    """What exists, but for what the bundle's resources gain by use and take along at their end."""
    tables = {
        name: each
        for name, each in snapshot.get("tables", {}).items()
        if not name.startswith("caspersdev_all.lakeflow.")
    }
    gained: dict[str, Any] = {"workspace_files": [], "apps": sorted(snapshot["apps"])}
    pipelines = sorted(each["name"] for each in snapshot["pipelines"].values())
    return snapshot | gained | {"pipelines": pipelines, "tables": tables}


def test_all_is_deployed_once_and_leaves_nothing(make_world: MakeWorld) -> None:
    world = make_world()
    before = world.loopback.snapshot()
    world.deploy_bundle(shipped())
    with_bundle = world.loopback.snapshot()

    first = world.deploy()
    deployed = world.loopback.snapshot()
    made = {each.became for outcome in first for each in outcome.resources}
    assert made == {"created", "unchanged"}
    second = world.deploy()
    assert {each.became for outcome in second for each in outcome.resources} == {"unchanged"}
    assert world.loopback.snapshot() == deployed

    removal = destroy_workspace(world.workspace())
    assert (removal.removal.left, removal.home_left) == ((), None)
    left = world.loopback.snapshot()
    assert without_gains(left) == without_gains(with_bundle)
    assert len(left["apps"]["caspers-refunds"]["resources"]) == 2
    world.bundle.destroy()
    assert world.loopback.snapshot() == before


def test_what_is_asked_of_the_workspace_reads_as_the_golden_file(make_world: MakeWorld) -> None:
    world = make_world(shipped())
    text = ["# The calls of a deployment of `all`, of the same again, and of its removal."]

    def record(title: str, work: Callable[[], object]) -> None:
        world.loopback.calls.clear()
        work()
        text.extend(["", f"## {title}", *world.loopback.wire(collapse=True)])

    for time in ("first", "second"):
        for name in checked_graph(target_tasks("all")):
            record(f"{name}, {time} run", lambda name=name: world.run(name))  # type: ignore[misc]
    record("Removal", lambda: destroy_workspace(world.workspace()))
    said = "\n".join(text) + "\n"
    if not GOLDEN.exists():
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(said, encoding="utf-8")
        pytest.fail(f"{GOLDEN.name} was missing and is written now: read it, then run this again")
    # To accept other calls, delete the file and run this test.
    assert said.splitlines() == GOLDEN.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("lag", [0, 2])
def test_a_crash_at_every_change_of_deploy_and_of_destroy_orphans_nothing(
    make_world: MakeWorld, lag: int
) -> None:
    smooth = make_world(shipped())
    smooth.deploy()
    world = make_world()
    before = world.loopback.snapshot()
    world.deploy_bundle(shipped())
    world.loopback.lag = lag
    bundle = world.loopback.snapshot()
    for name in checked_graph(target_tasks("all")):
        world.through_crashes(lambda name=name: world.run(name))  # type: ignore[misc]
    assert len(world.crashed) > 100
    assert names(world.loopback.snapshot()) == names(smooth.loopback.snapshot())
    rows = {(row.kind, row.name): row.status for row in world.workspace().ledger.rows()}
    assert rows == {(row.kind, row.name): row.status for row in smooth.workspace().ledger.rows()}
    assert set(rows.values()) == {"ready"}

    world.through_crashes(lambda: destroy_workspace(world.workspace()))
    left = world.loopback.snapshot()
    assert names(without_gains(left)) == names(without_gains(bundle))
    world.bundle.destroy()
    assert world.loopback.snapshot() == before


def test_the_app_may_read_the_refunds_and_nothing_else(
    make_world: MakeWorld, refunds_dsn: str
) -> None:
    make_world(shipped()).deploy()
    rights = "SELECT has_schema_privilege(%s, %s, 'USAGE'), has_table_privilege(%s, %s, %s)"
    with psycopg.connect(refunds_dsn) as connection:

        def may(schema: str, right: str) -> tuple[Any, ...] | None:
            words = (APP_ROLE, schema, APP_ROLE, f"{schema}.pg_t", right)
            return connection.execute(rights, words).fetchone()

        assert may("recommender", "SELECT") == (True, True)
        assert may("lakeflow", "SELECT") == (True, True)
        assert may("recommender", "UPDATE") == (True, False)
        assert may("secret", "SELECT") == (False, False)
        assert connection.execute(
            "SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = %s", [APP_ROLE]
        ).fetchone() == (False, False)
