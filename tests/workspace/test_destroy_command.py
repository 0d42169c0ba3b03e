"""`caspers destroy --workspace`, from the command line to the wire, the account in a warehouse."""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from caspers_lib.cli import main
from caspers_lib.workspace.removal import removal_plan
from caspers_lib.workspace.resource_state import Resource
from caspers_lib.workspace.state_stores import WarehouseResourceStore
from tests.bundle.shipped import shipped
from tests.workspace.conftest import World
from tests.workspace_fake import DuckDBExecutor

MakeWorld = Callable[..., World]
CATALOG = "caspersdev_all"


@dataclass(frozen=True)
class Said:
    """What a command ended with, and the lines that it wrote."""

    code: int
    out: list[str]
    error: list[str]


Caspers = Callable[..., Said]


@pytest.fixture
def caspers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Caspers:
    """Runs the command line in this process."""

    def run(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["caspers", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        code = ended.value.code
        return Said(code if isinstance(code, int) else 0, said.out.splitlines(),
                    said.err.splitlines())  # fmt: skip

    return run


@dataclass(frozen=True)
class Deployed:
    """A world where everything is deployed, with its account in the catalog."""

    world: World
    store: WarehouseResourceStore

    @property
    def plan(self) -> list[str]:
        return [named(row) for row in removal_plan(self.store.read())]


def named(row: Resource) -> str:
    return f"{row.kind.replace('_', ' ')} {row.name}"


@pytest.fixture
def deployed(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    duck = DuckDBExecutor()
    world = make_world(shipped(), execute=duck)
    world.loopback.lakebase.polls = 1  # nothing sleeps for an operation that is done at once
    world.deploy()
    warehouse = world.loopback.add_warehouse("small")
    store = WarehouseResourceStore(
        world.client, warehouse, CATALOG, world.client.config.host, world.settings.target
    )
    store.prepare()
    world.loopback.add_schema(f"{CATALOG}._internal_state")
    world.loopback.add_table(f"{CATALOG}._internal_state.resources")
    store.write(*world.workspace().ledger.rows())
    monkeypatch.setenv("DATABRICKS_HOST", world.loopback.url)
    monkeypatch.setenv("DATABRICKS_TOKEN", world.loopback.token)
    yield Deployed(world, store)
    duck.close()


WORDS = ("destroy", "--workspace", "--target", "all", "--catalog", CATALOG)


def test_a_dry_run_prints_the_plan_and_changes_nothing(
    deployed: Deployed, caspers: Caspers
) -> None:
    before, rows = deployed.world.loopback.snapshot(), deployed.store.read()
    assert len(deployed.plan) > 30
    said = caspers(*WORDS, "--dry-run")
    assert (said.code, said.error) == (0, [])
    assert [line for line in said.out if line.startswith("would remove")] == [
        f"would remove  {each}" for each in deployed.plan
    ]
    bundle = [named(row) for row in rows if row.owner == "bundle"]
    assert len(bundle) > 20
    assert [line for line in said.out if line.startswith("bundle")] == [
        f"bundle   {each}: databricks bundle destroy removes it" for each in bundle
    ]
    assert deployed.world.loopback.snapshot() == before
    assert deployed.store.read() == rows


def test_it_removes_in_order_and_goes_on_after_a_failure(
    deployed: Deployed, caspers: Caspers
) -> None:
    world, plan = deployed.world, deployed.plan
    stubborn = f"{CATALOG}.ai.refund_agent"
    refusal = f"DELETE /api/2.1/unity-catalog/models/{stubborn}"
    world.loopback.deny(refusal, "User does not own it")
    said = caspers(*WORDS)
    assert said.code == 1
    assert [line.split(maxsplit=1)[1].partition(":")[0] for line in said.out][: len(plan)] == plan
    assert [line for line in said.out if line.startswith("left")] == [
        f"left     registered model {stubborn}: The registered model {stubborn} was not deleted:"
        " User does not own it"
    ]
    message, hint = said.error
    assert re.fullmatch(
        f"error: registered model {stubborn} is left: .* User does not own it\\.? Ask an"
        " administrator for the permission, or use names that are yours.",
        message,
    )
    assert hint == ("hint: Cure it, then run the same command again: it goes on with what is left.")
    assert [row.name for row in deployed.store.read() if row.status == "deleting"] == [stubborn]
    assert list(world.loopback.snapshot()["models"]) == [stubborn]

    world.loopback.allow(refusal)
    assert caspers(*WORDS, "--dry-run").out[0] == f"would remove  registered model {stubborn}"
    again = caspers(*WORDS)
    assert (again.code, again.error) == (0, [])
    assert again.out[0] == f"removed  registered model {stubborn}"
    assert again.out[-1] == f"removed  schema {CATALOG}._internal_state"
    left = world.loopback.snapshot()
    assert not {"models", "functions", "serving_endpoints"} & set(left)
    assert not [name for name in left["lakebase"] if name.startswith("synced_tables/")]
    assert f"{CATALOG}._internal_state" not in left["schemas"]

    nothing = caspers(*WORDS)
    assert (nothing.code, nothing.out) == (
        0,
        [f"nothing to remove: there is no account of all in {CATALOG}"],
    )


def test_another_targets_account_is_not_touched(deployed: Deployed, caspers: Caspers) -> None:
    before, rows = deployed.world.loopback.snapshot(), deployed.store.read()
    said = caspers("destroy", "--workspace", "--target", "free", "--catalog", CATALOG)
    assert (said.code, said.error) == (0, [])
    assert said.out == [
        f"kept     the account of resources in {CATALOG}: another target is still on record in it"
    ]
    assert deployed.world.loopback.snapshot() == before
    assert deployed.store.read() == rows


def test_without_a_warehouse_it_says_what_to_do(deployed: Deployed, caspers: Caspers) -> None:
    for warehouse in deployed.world.client.warehouses.list():
        deployed.world.client.warehouses.delete(warehouse.id or "")
    said = caspers(*WORDS)
    assert (said.code, said.out) == (1, [])
    assert said.error == [
        "error: The workspace has no SQL warehouse to read the account of resources with.",
        "hint: Create one, or run the bundle's destroyer: databricks bundle run destroyer.",
    ]


def test_an_expired_token_changes_nothing(
    deployed: Deployed, caspers: Caspers, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = deployed.world.loopback.snapshot()
    monkeypatch.setenv("DATABRICKS_TOKEN", "an old one")
    said = caspers(*WORDS)
    assert (said.code, said.out) == (1, [])
    assert said.error[1].startswith("hint: Log in: ")
    assert deployed.world.loopback.snapshot() == before
