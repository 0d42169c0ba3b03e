"""The shipped bundle, each target deployed by the SDK: twice, changed, and destroyed."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config

from caspers_lib.runtime.task_graph import TARGETS
from tests.bundle.configuration import ConfigurationError, Target, read_target
from tests.bundle.deployment import Deployment
from tests.workspace_fake import LoopbackWorkspace

BUNDLE = Path(__file__).parents[2] / "examples" / "bundle"
CATALOG = {"catalog": "mine"}

every_target = pytest.mark.parametrize("name", list(TARGETS))


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackWorkspace]:
    for name in [n for n in os.environ if n.startswith("DATABRICKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with LoopbackWorkspace().running() as running:
        running.add_schema("mine.others")
        yield running


@pytest.fixture
def deployment(workspace: LoopbackWorkspace) -> Deployment:
    config = Config(host=workspace.url, token=workspace.token)
    return Deployment(WorkspaceClient(config=config))


def built(folder: Path, version: str) -> Path:
    """What a build of the code makes, as far as a deployment looks."""
    wheel = folder / f"caspers_lib-0.1.0+{version}-py3-none-any.whl"
    wheel.write_bytes(version.encode())
    return wheel


@every_target
def test_a_target_is_deployed_once_follows_its_code_and_leaves_nothing(
    workspace: LoopbackWorkspace, deployment: Deployment, tmp_path: Path, name: str
) -> None:
    before = workspace.snapshot()
    target = read_target(BUNDLE, name, CATALOG, built(tmp_path, "one"))
    first = deployment.deploy(target)
    assert len(first.created) == sum(map(len, target.resources.values()))
    deployed = workspace.snapshot()

    second = deployment.deploy(read_target(BUNDLE, name, CATALOG, built(tmp_path, "one")))
    assert sorted(second.unchanged) == sorted(first.created)
    assert workspace.snapshot() == deployed

    third = deployment.deploy(read_target(BUNDLE, name, CATALOG, built(tmp_path, "two")))
    runs_code = {key for key in first.created if key.split(".")[0] in {"jobs", "pipelines"}}
    assert set(third.updated) == {key for key in runs_code if has_wheel(target, key)}
    assert {"jobs.initializer", "jobs.replay"} <= set(third.updated)
    assert any(key.startswith("pipelines.") for key in third.updated)
    assert "0.1.0+two" in str(workspace.snapshot()["jobs"])
    assert "0.1.0+one" not in str((workspace.snapshot()["jobs"], workspace.snapshot()["pipelines"]))

    assert sorted(deployment.destroy().deleted) == sorted(first.created)
    assert workspace.snapshot() == before


def has_wheel(target: Target, key: str) -> bool:
    kind, _, name = key.partition(".")
    return ".whl" in str(target.resources[kind][name])


@every_target
def test_a_job_runs_once_at_a_time_and_what_starts_meanwhile_waits(name: str) -> None:
    for job in read_target(BUNDLE, name, CATALOG).resources["jobs"].values():
        assert (job["max_concurrent_runs"], job["queue"]) == (1, {"enabled": True}), job["name"]


def test_all_targets_live_side_by_side(
    workspace: LoopbackWorkspace, deployment: Deployment
) -> None:
    declared = yaml.safe_load((BUNDLE / "databricks.yml").read_text(encoding="utf-8"))["variables"]
    deployments = []
    for name in TARGETS:
        workspace.add_schema(f"mine_{name}.others")
        own = {"catalog": f"mine_{name}", "suffix": f"-{name}"}
        given = {key: value for key, value in own.items() if key in declared}
        deployments.append(Deployment(deployment.client))
        assert deployments[-1].deploy(read_target(BUNDLE, name, given)).created
    before = workspace.snapshot()
    for each in deployments:
        each.destroy()
    left = workspace.snapshot()
    assert left.keys() == {"catalogs", "schemas"} < before.keys()


def test_a_variable_without_a_value_is_refused_before_anything_changes(tmp_path: Path) -> None:
    write(tmp_path, SHOP)
    with pytest.raises(ConfigurationError, match=r"no value for \['catalog'\]"):
        read_target(tmp_path, "dev", {})
    with pytest.raises(ConfigurationError, match=r"\['catalogue'\] are not declared"):
        read_target(tmp_path, "dev", {"catalogue": "mine"})


# A small bundle with the kinds that the shipped one may have.

SHOP = """
bundle: {name: shop}
variables:
  catalog: {description: Where.}
  title: {default: "Sales of ${var.catalog}"}
workspace: {root_path: "~/.bundle/${bundle.name}/${bundle.target}"}
resources:
  jobs:
    ask:
      name: Ask
      tasks: [{task_key: a, pipeline_task: {pipeline_id: "${resources.pipelines.sales.id}"}}]
  pipelines:
    sales: {name: Sales, catalog: "${var.catalog}", schema: "${resources.schemas.gold.name}"}
  schemas:
    gold: {catalog_name: "${var.catalog}", name: gold}
  sql_warehouses:
    small: {name: Small, cluster_size: 2X-Small, max_num_clusters: 1}
  dashboards:
    sales:
      display_name: ${var.title}
      file_path: ./sales.lvdash.json
      warehouse_id: ${resources.sql_warehouses.small.id}
      dataset_catalog: ${var.catalog}
  genie_spaces:
    sales:
      title: ${var.title}
      file_path: ./sales.geniespace.json
      warehouse_id: ${resources.sql_warehouses.small.id}
  apps:
    shop:
      name: shop
      source_code_path: ./code
      lifecycle: {started: true}
      config: {command: [python, app.py], env: [{name: DB, value_from: orders}]}
      resources:
        - name: orders
          postgres: &orders
            branch: ${resources.postgres_projects.shop.id}/branches/production
            database: ${resources.postgres_databases.shop.id}
            permission: CAN_CONNECT_AND_CREATE
  postgres_projects:
    shop: {project_id: shop, display_name: Shop, pg_version: 17, purge_on_delete: true}
  postgres_roles:
    owner:
      parent: ${resources.postgres_projects.shop.id}/branches/production
      role_id: owner
      postgres_role: owner
  postgres_databases:
    shop:
      parent: ${resources.postgres_projects.shop.id}/branches/production
      database_id: orders
      postgres_database: orders
      role: ${resources.postgres_roles.owner.id}
targets:
  dev:
    resources:
      jobs:
        ask:
          tasks: [{task_key: a, description: By hand}]
"""


def write(folder: Path, text: str) -> None:
    (folder / "databricks.yml").write_text(text, encoding="utf-8")
    (folder / "code").mkdir(exist_ok=True)
    for name in ("sales.lvdash.json", "sales.geniespace.json"):
        content = {"datasets": [{"name": "orders", "queryLines": ["SELECT 1"]}]}
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


def test_every_kind_is_made_in_order_changed_where_it_differs_and_deleted(
    workspace: LoopbackWorkspace, deployment: Deployment, tmp_path: Path
) -> None:
    before = workspace.snapshot()
    write(tmp_path, SHOP)
    first = deployment.deploy(read_target(tmp_path, "dev", CATALOG))
    for uses, used in (
        ("jobs.ask", "pipelines.sales"),
        ("pipelines.sales", "schemas.gold"),
        ("apps.shop", "postgres_databases.shop"),
        ("postgres_databases.shop", "postgres_roles.owner"),
    ):
        assert first.created.index(used) < first.created.index(uses)
    there = workspace.snapshot()
    [job] = there["jobs"].values()
    assert job["settings"]["tasks"][0]["description"] == "By hand"
    assert job["settings"]["tasks"][0]["pipeline_task"] == {"pipeline_id": "pipeline-1"}
    [dashboard] = there["dashboards"].values()
    assert dashboard["published"]["display_name"] == "Sales of mine"
    assert json.loads(dashboard["serialized_dashboard"])["datasets"][0]["catalog"] == "mine"
    assert deployment.deploy(read_target(tmp_path, "dev", CATALOG)).unchanged == first.created
    assert workspace.snapshot() == there

    write(tmp_path, SHOP.replace("app.py]", "main.py]").replace("display_name: Shop", NEW_SHOP))
    title = {"title": "Sold"}
    second = deployment.deploy(read_target(tmp_path, "dev", CATALOG | title))
    expected = {"apps.shop", "postgres_projects.shop", "dashboards.sales", "genie_spaces.sales"}
    assert set(second.updated) == expected
    assert "Sold" in str(workspace.snapshot()["genie_spaces"])
    app = deployment.client.apps.get("shop")
    assert app.active_deployment and app.active_deployment.command == ["python", "main.py"]

    write(tmp_path, re.sub(r"  genie_spaces:.*?(?=  apps:)", "", SHOP, flags=re.DOTALL))
    assert deployment.deploy(read_target(tmp_path, "dev", CATALOG)).deleted == [
        "genie_spaces.sales"
    ]
    deployment.destroy()
    assert workspace.snapshot() == before


NEW_SHOP = "display_name: New shop"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("${resources.pipelines.sales.id}", "${resources.pipelines.no.id}", "refers to"),
        ("  genie_spaces:", "  genies:", r"\['genies'\] are not modelled"),
        ("${var.title}", "${var.titel}", "leads nowhere"),
        ("./code", "./cod", "source_code_path: there is no"),
        ("  jobs:\n    ask:", "  jobs:\n    ask: {}\n    ask:", "twice"),
    ],
)
def test_what_leads_nowhere_is_refused_before_anything_changes(
    workspace: LoopbackWorkspace,
    deployment: Deployment,
    tmp_path: Path,
    old: str,
    new: str,
    said: str,
) -> None:
    write(tmp_path, SHOP.replace(old, new, 1))
    with pytest.raises(ConfigurationError, match=said):
        deployment.deploy(read_target(tmp_path, "dev", CATALOG))
    assert workspace.calls == []


def test_what_would_move_is_not_deployed(deployment: Deployment, tmp_path: Path) -> None:
    write(tmp_path, SHOP)
    deployment.deploy(read_target(tmp_path, "dev", CATALOG))
    with pytest.raises(AssertionError, match="it would be moved"):
        deployment.deploy(read_target(tmp_path, "dev", {"catalog": "theirs"}))
