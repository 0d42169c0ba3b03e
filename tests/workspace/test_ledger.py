"""The account of resources: crash anywhere, run again, and nothing foreign is touched."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from databricks.sdk.errors.platform import NotFound

from caspers_lib.errors import WorkspaceError
from caspers_lib.workspace.ledger import Ledger, Wanted
from caspers_lib.workspace.removal import removal_plan, remove_resources
from caspers_lib.workspace.resource_kinds import KINDS
from caspers_lib.workspace.resource_state import Resource
from caspers_lib.workspace_calls import Patience
from tests.workspace.conftest import AccountOnPaper

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

    def delete(self, name: str) -> None:
        self.service.step(f"delete {self.kind} {name}")
        if (self.kind, name) in self.service.stubborn:
            raise OSError("It is in use")
        if (self.kind, name) not in self.service.there:
            raise NotFound(f"{name} does not exist")
        self.service.there.remove((self.kind, name))


class Service:
    """A workspace with endpoints, models, functions and tables."""

    def __init__(self) -> None:
        self.there: set[tuple[str, str]] = set()
        self.stubborn: set[tuple[str, str]] = set()
        self.calls: list[str] = []
        self.crash_at: int | None = None
        for kind in ("serving_endpoints", "registered_models", "functions", "tables"):
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
    ("table", "tables", "c.ai.t'; DROP TABLE x --"),
    ("function", "functions", "c.ai.f"),
    ("registered_model", "registered_models", "c.ai.m"),
    ("serving_endpoint", "serving_endpoints", "e\n\"1"),
)  # fmt: skip


Rows = dict[tuple[str, str], Resource]


@pytest.fixture
def rows() -> Rows:
    """The account, which outlives each process."""
    return {}


def ledger(service: Any, rows: Rows, moments: Iterator[datetime]) -> Ledger:
    return Ledger(service, AccountOnPaper(rows), lambda: next(moments), PATIENCE)


def deploy(book: Ledger, service: Service) -> list[str]:
    def make(kind: str, name: str) -> str:
        # A call that is repeated after a crash is one that may be: CREATE OR REPLACE and the like.
        if (kind, name) in service.there:
            service.step(f"replace {kind} {name}")
            return "1"
        return service.make(kind, name)

    wanted = [
        Wanted(kind=kind, name=name, create=partial(make, api, name), fingerprint="f")
        for kind, api, name in MADE
    ]
    return [ensured.became for ensured in book.ensure_all(wanted)]


def test_what_is_made_twice_is_made_once_and_the_removal_leaves_nothing(
    service: Service, rows: Rows, moments: Iterator[datetime]
) -> None:
    assert deploy(ledger(service, rows, moments), service) == ["created"] * len(MADE)
    calls = len(service.calls)
    assert deploy(ledger(service, rows, moments), service) == ["unchanged"] * len(MADE)
    assert all(call.startswith("get ") for call in service.calls[calls:])
    book = ledger(service, rows, moments)
    planned = [(row.kind, row.name) for row in removal_plan(book.rows())]
    assert planned == [(kind, name) for kind, _, name in reversed(MADE)]
    removal = remove_resources(book, PATIENCE)
    assert removal.is_complete
    assert [(r.kind, r.name) for r in removal.removed] == planned
    assert service.there == set()
    assert remove_resources(ledger(service, rows, moments), PATIENCE).removed == ()


def test_a_crash_at_every_call_of_deploy_and_of_destroy_ends_in_the_same_state(
    rows: Rows, moments: Iterator[datetime]
) -> None:
    whole = Service()
    deploy(ledger(whole, rows, moments), whole)
    deployed = len(whole.calls)
    remove_resources(ledger(whole, rows, moments), PATIENCE)
    for crash_at in range(len(whole.calls)):
        service, account = Service(), Rows()
        service.crash_at = crash_at
        with pytest.raises(Crash):
            deploy(ledger(service, account, moments), service)
            remove_resources(ledger(service, account, moments), PATIENCE)
        service.crash_at = None
        if crash_at < deployed:
            deploy(ledger(service, account, moments), service)
            assert service.there == {(api, name) for _, api, name in MADE}
        removal = remove_resources(ledger(service, account, moments), PATIENCE)
        assert removal.is_complete
        assert service.there == set(), f"orphaned after a crash at call {crash_at}"


def test_a_crash_after_the_service_has_done_it_orphans_nothing(
    service: Service, rows: Rows, moments: Iterator[datetime]
) -> None:
    def done_and_gone() -> str:
        service.make("functions", "c.ai.f")
        raise Crash

    with pytest.raises(Crash):
        ledger(service, rows, moments).ensure("function", "c.ai.f", done_and_gone)
    assert ledger(service, rows, moments).rows()[0].status == "creating"
    assert remove_resources(ledger(service, rows, moments), PATIENCE).is_complete
    assert service.there == set()


def test_what_was_there_before_is_used_if_it_may_be_and_never_deleted(
    service: Service, rows: Rows, moments: Iterator[datetime]
) -> None:
    service.there = {("tables", "c.ai.t"), ("serving_endpoints", "e")}
    book = ledger(service, rows, moments)
    assert book.ensure("table", "c.ai.t", lambda: None).became == "found"
    with pytest.raises(WorkspaceError, match="The serving endpoint e exists and is not on record"):
        book.ensure("serving_endpoint", "e", lambda: None)
    removal = remove_resources(book, PATIENCE)
    assert (removal.removed, [r.name for r in removal.kept]) == ((), ["c.ai.t"])
    assert service.there == {("tables", "c.ai.t"), ("serving_endpoints", "e")}
    assert not [call for call in service.calls if call.startswith("delete")]


def test_another_tasks_new_resource_is_seen_as_ours(
    service: Service, rows: Rows, moments: Iterator[datetime]
) -> None:
    mine, others = (ledger(service, rows, moments) for _ in range(2))
    assert mine.rows() == ()
    made = lambda: service.make("functions", "c.ai.f")  # noqa: E731 - twice the same call
    assert others.ensure("function", "c.ai.f", made, fingerprint="f").became == "created"
    assert mine.ensure("function", "c.ai.f", made, fingerprint="f").became == "unchanged"


def test_a_changed_fingerprint_updates_and_keeps_the_creation_time(
    service: Service, rows: Rows, moments: Iterator[datetime]
) -> None:
    book = ledger(service, rows, moments)
    book.ensure("function", "c.ai.f", lambda: service.make("functions", "c.ai.f"), fingerprint="1")
    created = book.rows()[0].created_at
    became = book.ensure("function", "c.ai.f", lambda: "second", fingerprint="2")
    assert (became.became, became.detail) == ("updated", "second")
    row = book.rows()[0]
    assert (row.fingerprint, row.created_at, row.status) == ("2", created, "ready")


def test_one_failure_is_named_and_the_rest_goes_on_until_the_next_call(
    service: Service, rows: Rows, moments: Iterator[datetime]
) -> None:
    deploy(ledger(service, rows, moments), service)
    service.stubborn = {("registered_models", "c.ai.m")}
    said: list[str] = []
    removal = remove_resources(ledger(service, rows, moments), PATIENCE, said.append)
    [left] = removal.left
    assert left.resource.name == "c.ai.m"
    assert "was not deleted: It is in use" in left.why
    assert service.there == {("registered_models", "c.ai.m")}
    assert any(line.startswith("left     registered model c.ai.m") for line in said)
    service.stubborn = set()
    again = remove_resources(ledger(service, rows, moments), PATIENCE)
    assert [r.name for r in again.removed] == ["c.ai.m"]
    assert service.there == set()


def test_all_of_a_task_are_begun_before_one_is_waited_for_and_two_writes_record_them(
    service: Service, rows: Rows, moments: Iterator[datetime]
) -> None:
    done: list[str] = []
    store = AccountOnPaper(rows, lambda what: done.append(what.partition(" ")[0] + " row"))

    def wanted(name: str) -> Wanted:
        def create() -> None:
            service.make("tables", name)
            done.append(f"begin {name}")

        def settle() -> str:
            done.append(f"settle {name}")
            return "works"

        return Wanted(kind="table", name=name, create=create, settle=settle)

    book = Ledger(service, store, lambda: next(moments), PATIENCE)  # type: ignore[arg-type]
    made = book.ensure_all([wanted("a.b.1"), wanted("a.b.2")])
    assert [each.detail for each in made] == ["works", "works"]
    assert done == [
        "before row", "after row", "begin a.b.1", "begin a.b.2", "settle a.b.1", "settle a.b.2",
        "before row", "after row",
    ]  # fmt: skip


def test_what_was_made_before_one_failed_is_on_record_as_ready(
    service: Service, rows: Rows, moments: Iterator[datetime]
) -> None:
    def fails() -> str:
        raise WorkspaceError("It is too hot.", hint="Wait.")

    wanted = [
        Wanted(kind="table", name=name, create=partial(service.make, "tables", name), settle=settle)
        for name, settle in (("a.b.1", None), ("a.b.2", fails), ("a.b.3", None))
    ]
    with pytest.raises(WorkspaceError, match="It is too hot"):
        ledger(service, rows, moments).ensure_all(wanted)
    assert [row.status for row in rows.values()] == ["ready", "creating", "creating"]


def test_the_bundles_resources_are_on_record_and_never_ours_to_delete(
    service: Service, rows: Rows, moments: Iterator[datetime]
) -> None:
    book = ledger(service, rows, moments)
    book.record_declared([("job", "7", "jobs.replay"), ("app", "a", "apps.a")])
    assert {(r.kind, r.name, r.owner, r.status, r.detail) for r in book.rows()} == {
        ("job", "7", "bundle", "ready", "jobs.replay"),
        ("app", "a", "bundle", "ready", "apps.a"),
    }
    before = dict(rows)
    book.record_declared([("job", "7", "jobs.replay"), ("app", "a", "apps.a")])
    assert rows == before
    book.record_declared([("job", "8", "jobs.replay"), ("app", "a", "apps.a")])
    assert rows["job", "7"].status == "deleted"
    removal = remove_resources(book, PATIENCE)
    assert [row.name for row in removal.declared] == ["a", "8"]
    assert not service.calls


def test_a_row_of_an_unknown_kind_stops_the_removal_before_anything_goes() -> None:
    row = Resource(kind="moon", name="m", status="ready", created_at=T0, updated_at=T0)
    with pytest.raises(WorkspaceError, match="m is on record as a moon"):
        removal_plan([row])


def test_what_uses_goes_before_what_is_used() -> None:
    assert list(KINDS) == [
        "schedule", "serving_endpoint", "synced_table", "registered_model", "function", "view",
        "table",
    ]  # fmt: skip
