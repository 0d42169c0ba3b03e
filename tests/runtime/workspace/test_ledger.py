"""The account of resources: crash anywhere, run again, and nothing foreign is touched."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from databricks.sdk.errors.platform import NotFound

from caspers_lib.errors import WorkspaceError
from caspers_lib.runtime.workspace.ledger import Ledger
from caspers_lib.runtime.workspace.removal import removal_plan, remove_resources
from caspers_lib.runtime.workspace.resource_kinds import KINDS
from caspers_lib.runtime.workspace.resource_state import Resource
from caspers_lib.runtime.workspace.state_stores import FileResourceStore
from caspers_lib.workspace_calls import Patience

T0 = datetime(2026, 11, 1, tzinfo=UTC)


class Crash(BaseException):
    """The process is gone."""


class Things:
    """One service of a workspace: what is there, and a count of the calls that change it."""

    def __init__(self, service: "Service", kind: str) -> None:
        self.service, self.kind = service, kind

    def get(self, name: str) -> object:
        self.service.step(f"get {self.kind} {name}")
        if (self.kind, name) not in self.service.there:
            raise NotFound(f"{name} does not exist")
        return SimpleNamespace(name=name)

    read = get

    def delete(self, name: str) -> None:
        self.service.step(f"delete {self.kind} {name}")
        if (self.kind, name) in self.service.stubborn:
            raise OSError("It is in use")
        if (self.kind, name) not in self.service.there:
            raise NotFound(f"{name} does not exist")
        self.service.there.remove((self.kind, name))

    def list(self, *_where: str, **_more: str) -> list[object]:
        inside = self.service.inside.get(self.kind, [])
        return [SimpleNamespace(full_name=name) for name in inside]


class Service:
    """A workspace with endpoints, models, functions, tables, volumes and schemas."""

    def __init__(self) -> None:
        self.there: set[tuple[str, str]] = set()
        self.stubborn: set[tuple[str, str]] = set()
        self.inside: dict[str, list[str]] = {}
        self.calls: list[str] = []
        self.crash_at: int | None = None
        for kind in ("serving_endpoints", "registered_models", "functions", "tables", "volumes",
                     "schemas"):  # fmt: skip
            setattr(self, kind, Things(self, kind))

    def step(self, call: str) -> None:
        self.calls.append(call)
        if self.crash_at is not None and len(self.calls) > self.crash_at:
            raise Crash

    def make(self, kind: str, name: str) -> str:
        self.step(f"create {kind} {name}")
        assert (kind, name) not in self.there, "created twice"
        self.there.add((kind, name))
        return "1"


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def moments() -> Iterator[datetime]:
    return (T0 + timedelta(seconds=n) for n in count())


PATIENCE = Patience(timeout_seconds=5, sleep=lambda _seconds: None)
MADE = (
    ("schema", "schemas", "c.ai"),
    ("volume", "volumes", "c.ai.v"),
    ("table", "tables", "c.ai.t'; DROP TABLE x --"),
    ("function", "functions", "c.ai.f"),
    ("registered_model", "registered_models", "c.ai.m"),
    ("serving_endpoint", "serving_endpoints", "e\n\"1"),
)  # fmt: skip


def ledger(service: Any, folder: Path, moments: Iterator[datetime]) -> Ledger:
    store = FileResourceStore(folder / "resources.json", "https://w", "all")
    store.prepare()
    return Ledger(service, store, lambda: next(moments), PATIENCE)


def deploy(book: Ledger, service: Service) -> list[str]:
    def make(kind: str, name: str) -> str:
        # A call that is repeated after a crash is one that may be: CREATE OR REPLACE and the like.
        if (kind, name) in service.there:
            service.step(f"replace {kind} {name}")
            return "1"
        return service.make(kind, name)

    return [
        book.ensure(kind, name, lambda api=api, name=name: make(api, name), fingerprint="f").became  # type: ignore[misc]
        for kind, api, name in MADE
    ]


def test_what_is_made_twice_is_made_once_and_the_removal_leaves_nothing(
    service: Service, tmp_path: Path, moments: Iterator[datetime]
) -> None:
    assert deploy(ledger(service, tmp_path, moments), service) == ["created"] * len(MADE)
    calls = len(service.calls)
    assert deploy(ledger(service, tmp_path, moments), service) == ["unchanged"] * len(MADE)
    assert all(call.startswith("get ") for call in service.calls[calls:])
    book = ledger(service, tmp_path, moments)
    planned = [(row.kind, row.name) for row in removal_plan(book.rows())]
    assert planned == [(kind, name) for kind, _, name in reversed(MADE)]
    removal = remove_resources(book, PATIENCE)
    assert removal.is_complete
    assert [(r.kind, r.name) for r in removal.removed] == planned
    assert service.there == set()
    assert remove_resources(ledger(service, tmp_path, moments), PATIENCE).removed == ()


def test_a_crash_at_every_call_of_deploy_and_of_destroy_ends_in_the_same_state(
    tmp_path: Path, moments: Iterator[datetime]
) -> None:
    whole = Service()
    deploy(ledger(whole, tmp_path / "whole", moments), whole)
    deployed = len(whole.calls)
    remove_resources(ledger(whole, tmp_path / "whole", moments), PATIENCE)
    for crash_at in range(len(whole.calls)):
        service, folder = Service(), tmp_path / str(crash_at)
        service.crash_at = crash_at
        with pytest.raises(Crash):
            deploy(ledger(service, folder, moments), service)
            remove_resources(ledger(service, folder, moments), PATIENCE)
        service.crash_at = None
        if crash_at < deployed:
            deploy(ledger(service, folder, moments), service)
            assert service.there == {(api, name) for _, api, name in MADE}
        removal = remove_resources(ledger(service, folder, moments), PATIENCE)
        assert removal.is_complete
        assert service.there == set(), f"orphaned after a crash at call {crash_at}"


def test_a_crash_after_the_service_has_done_it_orphans_nothing(
    service: Service, tmp_path: Path, moments: Iterator[datetime]
) -> None:
    def done_and_gone() -> str:
        service.make("functions", "c.ai.f")
        raise Crash

    with pytest.raises(Crash):
        ledger(service, tmp_path, moments).ensure("function", "c.ai.f", done_and_gone)
    assert ledger(service, tmp_path, moments).rows()[0].status == "creating"
    assert remove_resources(ledger(service, tmp_path, moments), PATIENCE).is_complete
    assert service.there == set()


def test_what_was_there_before_is_used_if_it_may_be_and_never_deleted(
    service: Service, tmp_path: Path, moments: Iterator[datetime]
) -> None:
    service.there = {("schemas", "c.ai"), ("serving_endpoints", "e")}
    book = ledger(service, tmp_path, moments)
    assert book.ensure("schema", "c.ai", lambda: None).became == "found"
    with pytest.raises(WorkspaceError, match="The serving endpoint e exists and is not on record"):
        book.ensure("serving_endpoint", "e", lambda: None)
    removal = remove_resources(book, PATIENCE)
    assert (removal.removed, [r.name for r in removal.kept]) == ((), ["c.ai"])
    assert service.there == {("schemas", "c.ai"), ("serving_endpoints", "e")}
    assert not [call for call in service.calls if call.startswith("delete")]


def test_another_tasks_new_resource_is_seen_as_ours(
    service: Service, tmp_path: Path, moments: Iterator[datetime]
) -> None:
    mine, others = (ledger(service, tmp_path, moments) for _ in range(2))
    assert mine.rows() == ()
    made = lambda: service.make("functions", "c.ai.f")  # noqa: E731 - twice the same call
    assert others.ensure("function", "c.ai.f", made, fingerprint="f").became == "created"
    assert mine.ensure("function", "c.ai.f", made, fingerprint="f").became == "unchanged"


def test_a_changed_fingerprint_updates_and_keeps_the_creation_time(
    service: Service, tmp_path: Path, moments: Iterator[datetime]
) -> None:
    book = ledger(service, tmp_path, moments)
    book.ensure("function", "c.ai.f", lambda: service.make("functions", "c.ai.f"), fingerprint="1")
    created = book.rows()[0].created_at
    became = book.ensure("function", "c.ai.f", lambda: "second", fingerprint="2")
    assert (became.became, became.detail) == ("updated", "second")
    row = book.rows()[0]
    assert (row.fingerprint, row.created_at, row.status) == ("2", created, "ready")


def test_one_failure_is_named_and_the_rest_goes_on_until_the_next_call(
    service: Service, tmp_path: Path, moments: Iterator[datetime]
) -> None:
    deploy(ledger(service, tmp_path, moments), service)
    service.stubborn = {("registered_models", "c.ai.m")}
    said: list[str] = []
    removal = remove_resources(ledger(service, tmp_path, moments), PATIENCE, said.append)
    [left] = removal.left
    assert left.resource.name == "c.ai.m"
    assert "was not deleted: It is in use" in left.why
    assert service.there == {("registered_models", "c.ai.m")}
    assert any(line.startswith("left     registered model c.ai.m") for line in said)
    service.stubborn = set()
    again = remove_resources(ledger(service, tmp_path, moments), PATIENCE)
    assert [r.name for r in again.removed] == ["c.ai.m"]
    assert service.there == set()


def test_a_schema_of_ours_that_holds_a_table_of_theirs_stays(
    service: Service, tmp_path: Path, moments: Iterator[datetime]
) -> None:
    book = ledger(service, tmp_path, moments)
    book.ensure("schema", "c.ai", lambda: service.make("schemas", "c.ai"))
    service.inside = {"tables": ["c.ai.theirs"]}
    removal = remove_resources(book, PATIENCE)
    assert "still holds c.ai.theirs, which are not on record" in removal.left[0].why
    assert service.there == {("schemas", "c.ai")}


def test_a_row_of_an_unknown_kind_stops_the_removal_before_anything_goes() -> None:
    row = Resource(kind="moon", name="m", status="ready", created_at=T0, updated_at=T0)
    with pytest.raises(WorkspaceError, match="m is on record as a moon"):
        removal_plan([row])


def test_what_uses_goes_before_what_is_used() -> None:
    order = [kind.order for kind in KINDS.values()]
    assert order == sorted(order)
    assert len(set(order)) == len(order)
