"""What runs by itself in a workspace and when it begins, and what the app may read."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql

from caspers_lib.workspace import destroy_workspace
from tests.bundle.shipped import shipped
from tests.workspace.conftest import APP_ROLE, World

MakeWorld = Callable[..., World]


def scheduled(world: World) -> dict[str, dict[str, Any]]:
    """The settings of the jobs that start by themselves, by the names before the catalog's."""
    jobs = [job["settings"] for job in world.loopback.snapshot()["jobs"].values()]
    return {
        job["name"].partition(" (caspersdev_all)")[0]: job
        for job in jobs
        if job.keys() & {"trigger", "continuous", "schedule"}
    }


def test_each_schedule_begins_once_its_work_can_be_done(make_world: MakeWorld) -> None:
    world = make_world(shipped())
    begun: dict[str, set[str]] = {}
    for task in (outcome.task for outcome in (world.run(name) for name in WORK)):
        begun[task] = scheduled(world).keys() - set().union(*begun.values())
    assert begun == WORK
    world.loopback.calls.clear()
    world.deploy()
    assert not [call for call in world.loopback.calls if "/jobs/" in call.path and call.body]
    assert destroy_workspace(world.workspace()).removal.is_complete
    assert scheduled(world) == {}


WORK: dict[str, set[str]] = {
    "Canonical_Data": {"Canonical Data Replay"},
    "Spark_Declarative_Pipeline": {"Pipeline Update Scheduler"},
    "Refund_Recommender_Agent": set(),
    "Refund_Recommender_Stream": set(),
    "Lakebase_Reverse_ETL": {"Refund Recommender Stream"},
    "Databricks_App_Refund_Manager": set(),
    "Complaint_Agent": set(),
    "Complaint_Generator_Stream": set(),
    "Complaint_Agent_Stream": set(),
    "Complaint_Lakebase": {"Complaint Generator Stream", "Complaint Agent Stream"},
}


@pytest.mark.parametrize(("minutes", "every"), [(0, None), (7, 7)])
def test_one_parameter_decides_how_the_pipeline_is_updated(
    make_world: MakeWorld, minutes: int, every: int | None
) -> None:
    world = make_world(shipped())
    world.run("Spark_Declarative_Pipeline")
    changed = {"pipeline_schedule_minutes": minutes, "schedule_minutes": 5}
    world.settings = world.settings.model_copy(update=changed)
    [became] = world.run("Spark_Declarative_Pipeline").resources
    assert became.became == ("updated" if minutes else "unchanged")
    job = scheduled(world)["Pipeline Update Scheduler"]
    assert job.get("trigger", {}).get("periodic", {}).get("interval") == every
    assert ("continuous" in job) is (every is None)
    world.run("Canonical_Data")
    replay = scheduled(world)["Canonical Data Replay"]
    assert replay["trigger"]["periodic"] == {"interval": 5, "unit": "MINUTES"}


def test_the_app_may_read_a_table_that_is_copied_anew(
    make_world: MakeWorld, refunds_dsn: str
) -> None:
    world = make_world(shipped())
    world.deploy()
    assert world.run("Databricks_App_Refund_Manager").done.endswith("; it may read caspers")
    anew = sql.SQL("CREATE TABLE {}.pg_anew (n int)")
    may = "SELECT has_table_privilege(%s, %s, 'SELECT')"
    with psycopg.connect(refunds_dsn, autocommit=True) as connection:
        try:
            for schema, expected in (("lakeflow", True), ("secret", False)):
                connection.execute(anew.format(sql.Identifier(schema)))
                allowed = connection.execute(may, [APP_ROLE, f"{schema}.pg_anew"]).fetchone()
                assert allowed == (expected,)
        finally:
            for schema in ("lakeflow", "secret"):
                connection.execute(f"DROP TABLE IF EXISTS {schema}.pg_anew".encode())
