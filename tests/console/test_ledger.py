"""What the refund and the complaints of one order give together, on a real Postgres."""

import random
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caspers_lib.console.access import ConsoleAccess, Person
from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.decisions import deciding
from caspers_lib.console.decisions.deciding import DecisionStore
from caspers_lib.console.decisions.ledger import OrderLedger
from caspers_lib.console.decisions.values import (
    COMPLAINT_CASES,
    REFUND_CASES,
    Action,
    Decided,
    DecisionRequest,
    Refusal,
)
from tests.console.conftest import ORDERS
from tests.console.page_text import words

ANN = Person("ann@example.com", "manager")
TOTAL = Decimal("93.50")
ACCESS = ConsoleAccess(four_eyes_usd=TOTAL)
COMPLAINTS = ("c-1", "c-2", "c-3")


class KilledError(BaseException):
    """The process ends here."""


@dataclass
class Till:
    """Both kinds of decisions about the order o-1, as one console makes them."""

    business: Any
    refunds: DecisionStore
    complaints: DecisionStore

    def store(self, case_id: str) -> DecisionStore:
        return self.refunds if case_id.startswith("o-") else self.complaints

    def decide(self, case_id: str, action: Action, usd: str | Decimal | None = None) -> Decided:
        store = self.store(case_id)
        version = len(store.trail(case_id))
        return store.decide(
            DecisionRequest(
                case_id=case_id,
                version=version,
                action=action,
                amount_usd=None if usd is None else Decimal(usd),
                reason="why",
                key=uuid.uuid4().hex,
            ),
            ANN,
        )

    def give(self, case_id: str, usd: str | Decimal) -> str | None:
        """Why an amount is not given; None if it is."""
        try:
            self.decide(case_id, "change", usd)
        except Refusal as refusal:
            return refusal.code
        return None

    def given(self) -> dict[str, Decimal]:
        """What the trails say that each case gives."""
        given = {}
        for store in (self.refunds, self.complaints):
            query = f"""SELECT DISTINCT ON (case_id) case_id, amount_usd FROM {store.kind.trail}
                        ORDER BY case_id, version DESC"""
            with self.business.connect(store.kind.spec) as connection:
                given |= dict(connection.execute(query).fetchall())
        return {case_id: usd for case_id, usd in given.items() if usd}

    def counted(self) -> dict[str, Decimal]:
        """What the ledger counts."""
        with self.business.connect(REFUND_CASES.spec) as connection:
            rows = connection.execute(
                "SELECT case_id, usd FROM console.order_payouts WHERE usd > 0"
            )
            counted = dict(rows.fetchall())
            [(together,)] = connection.execute(
                "SELECT coalesce(sum(given_usd), 0) FROM console.order_balances"
            ).fetchall()
        assert together == sum(counted.values())
        return counted


def no_cities(_: Sequence[str]) -> dict[str, str]:
    return {}


def till_of(business: Any, connections: int = 16) -> Iterator[Till]:
    databases = [
        ConsoleDatabase(
            kind.spec.database,
            lambda kind=kind: business.addresses[kind.spec.database],  # type: ignore[misc]
            connections=connections,
        )
        for kind in (REFUND_CASES, COMPLAINT_CASES)
    ]
    orders, complaints = databases
    ledger = OrderLedger(orders, ORDERS["orders"], complaints)
    with closing(orders), closing(complaints):
        yield Till(
            business,
            DecisionStore(REFUND_CASES, orders, ledger, no_cities, ACCESS),
            DecisionStore(COMPLAINT_CASES, complaints, ledger, no_cities, ACCESS),
        )


@pytest.fixture
def till(business: Any) -> Iterator[Till]:
    """An order of 93.50 USD with a refund and three complaints to decide."""
    business.worth("o-1", str(TOTAL))
    business.refund("o-1")
    for case_id in COMPLAINTS:
        business.complaint(case_id, order="o-1")
    yield from till_of(business)


@pytest.mark.parametrize(("first", "second"), [("o-1", "c-1"), ("c-1", "o-1"), ("c-1", "c-2")])
def test_a_second_case_of_an_order_gives_only_what_the_first_left(
    till: Till, first: str, second: str
) -> None:
    assert till.give(first, "90.00") is None
    with pytest.raises(Refusal) as refused:
        till.decide(second, "change", "3.51")
    assert refused.value.code == "above_total"
    kind = "refund" if first == "o-1" else "complaint"
    given = f"90.00 USD are given by {kind} {first}"
    assert f"the 3.50 USD that are left of the order's total of 93.50 USD: {given}" in str(
        refused.value
    )
    assert refused.value.hint == "Give 3.50 USD at most."
    assert till.give(second, "3.50") is None
    assert till.counted() == till.given() == {first: Decimal("90.00"), second: Decimal("3.50")}


def test_what_is_taken_back_may_be_given_again(till: Till) -> None:
    assert till.give("c-1", TOTAL) is None
    assert till.give("o-1", "0.01") == "above_total"
    till.decide("c-1", "reverse")
    assert till.give("o-1", TOTAL) is None
    till.decide("o-1", "undo")
    assert till.give("c-2", TOTAL) is None
    assert till.counted() == till.given() == {"c-2": TOTAL}


def test_a_hundred_decisions_of_one_order_at_once_give_no_more_than_its_total(
    till: Till, business: Any
) -> None:
    cases = [f"c-{number}" for number in range(10, 60)]
    for case_id in cases:
        business.complaint(case_id, order="o-1")
    chance = random.Random(7)
    wanted = [(case_id, chance.randint(1, 900)) for case_id in [*cases, *["o-1"] * 50]]
    chance.shuffle(wanted)

    def give(case: tuple[str, int]) -> str | None:
        with suppress(psycopg.Error):
            return till.give(case[0], Decimal(case[1]) / 100)
        return None

    with ThreadPoolExecutor(25) as pool:
        codes = set(pool.map(give, wanted))
    assert sum(till.given().values()) <= TOTAL
    assert len(till.given()) > 5
    assert till.counted() == till.given()
    assert codes <= {None, "above_total", "stale", "wrong_status", "lost_connection", "key_reused"}


@pytest.mark.parametrize("place", ["after the claim", "after the record"])
@pytest.mark.parametrize("next_case", ["o-1", "c-1", "c-2"])
def test_a_console_that_is_killed_in_between_leaves_nothing_too_low_and_is_healed(
    till: Till, monkeypatch: pytest.MonkeyPatch, place: str, next_case: str
) -> None:
    cut(monkeypatch, place)
    with pytest.raises(KilledError):
        till.decide("c-1", "change", TOTAL)
    monkeypatch.undo()
    recorded = {"c-1": TOTAL} if place == "after the record" else {}
    assert till.given() == recorded
    assert till.counted() == {"c-1": TOTAL}
    refused = "wrong_status" if next_case == "c-1" else "above_total"
    assert till.give(next_case, "5.00") == (refused if recorded else None)
    if not recorded:
        recorded = {next_case: Decimal("5.00")}
    assert till.given() == recorded
    assert till.counted() == recorded


@pytest.mark.parametrize("action", ["reverse", "undo"])
def test_what_was_taken_back_before_a_kill_is_counted_until_the_next_look(
    till: Till, monkeypatch: pytest.MonkeyPatch, action: Any
) -> None:
    assert till.give("c-1", TOTAL) is None
    cut(monkeypatch, "after the record")
    with pytest.raises(KilledError):
        till.decide("c-1", action)
    monkeypatch.undo()
    assert (till.given(), till.counted()) == ({}, {"c-1": TOTAL})
    assert till.give("o-1", TOTAL) is None


def cut(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """End the process between two steps of a complaint's decision."""

    def killed(*_: object) -> None:
        raise KilledError

    if place == "after the claim":
        monkeypatch.setattr(deciding, "_row", killed)
    else:
        monkeypatch.setattr(OrderLedger, "settle", killed)


STEPS = st.tuples(
    st.sampled_from(["o-1", *COMPLAINTS]),
    st.sampled_from(["change", "reverse", "reject", "undo"]),
    st.integers(1, 9_350),
    st.sampled_from(["", "", "after the claim", "after the record"]),
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, max_size=12))
def test_whatever_is_decided_and_wherever_it_is_killed_the_ledger_is_never_too_low(
    till: Till, steps: list[tuple[str, Action, int, str]]
) -> None:
    for case_id in ("o-1", *COMPLAINTS):
        with suppress(Refusal):
            till.decide(case_id, "reverse")
    for case_id, action, cents, place in steps:
        usd = Decimal(cents) / 100 if action == "change" else None
        with pytest.MonkeyPatch.context() as patch, suppress(Refusal, KilledError):
            if place and case_id != "o-1":
                cut(patch, place)
            till.decide(case_id, action, usd)
        given, counted = till.given(), till.counted()
        assert all(counted.get(case, 0) >= usd for case, usd in given.items())
        assert sum(given.values()) <= sum(counted.values()) <= TOTAL
    left = TOTAL - sum(usd for case, usd in till.given().items() if case != "o-1")
    with suppress(Refusal):
        till.decide("o-1", "reverse")
    assert till.give("o-1", left) is None if left else True


def test_a_claim_that_is_being_recorded_is_waited_for_and_not_lowered(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = []
    row = deciding._row

    def meanwhile(*values: Any) -> dict[str, object]:
        if answers:
            return row(*values)
        # The claim is committed, the record not yet written: another case asks now.
        answers.append(pool.submit(till.give, "o-1", "1.00"))
        waits = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        with till.business.connect(COMPLAINT_CASES.spec) as connection:
            while not answers[0].done() and connection.execute(waits).fetchone() is None:
                time.sleep(0.01)
        return row(*values)

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(deciding, "_row", meanwhile)
        assert till.give("c-1", TOTAL) is None
        monkeypatch.undo()
        assert answers[0].result() == "above_total"
    assert till.given() == till.counted() == {"c-1": TOTAL}


def test_a_claim_counts_while_the_complaints_cannot_be_asked(
    till: Till, business: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(monkeypatch, "after the claim")
    with pytest.raises(KilledError):
        till.decide("c-1", "change", "90.00")
    monkeypatch.undo()
    there = business.addresses["caspers_complaints"]
    business.addresses["caspers_complaints"] = "host=/nowhere dbname=x"
    assert till.give("o-1", "4.00") == "above_total"
    assert till.give("o-1", "3.50") is None
    business.addresses["caspers_complaints"] = there
    for later in till_of(business):
        assert later.give("c-2", "90.00") is None


def test_nothing_is_given_while_the_orders_cannot_be_asked(till: Till, business: Any) -> None:
    assert till.give("c-1", "1.00") is None
    business.addresses["caspers"] = "host=/nowhere dbname=x"
    assert till.give("c-2", "1.00") == "lost_connection"
    assert till.give("c-2", "1.00") == "lost_connection"


def test_decisions_from_before_the_ledger_are_taken_in(till: Till, business: Any) -> None:
    till.give("c-1", "60.00")
    till.give("c-2", "10.00")
    till.decide("c-2", "reverse")
    till.give("o-1", "33.50")
    drop_ledger(business)
    for again in till_of(business):
        assert again.give("c-2", "0.01") == "above_total"
        assert again.counted() == {"c-1": Decimal("60.00"), "o-1": Decimal("33.50")}
        again.decide("o-1", "undo")
        assert again.give("c-2", "33.50") is None


def test_what_was_given_above_the_total_before_the_ledger_can_only_become_less(
    till: Till, business: Any
) -> None:
    till.give("c-1", TOTAL)
    drop_ledger(business)
    with business.connect(REFUND_CASES.spec) as connection:
        connection.execute("UPDATE lakeflow.pg_gold_order_header SET order_revenue = 50")
    for again in till_of(business):
        assert again.give("o-1", "0.01") == "above_total"
        again.decide("c-1", "undo")
        assert again.give("o-1", "50.01") == "above_total"
        assert again.give("o-1", "50.00") is None
        assert again.give("c-2", "0.01") == "above_total"


def drop_ledger(business: Any) -> None:
    """Leave the trails as an older console kept them."""
    with business.connect(REFUND_CASES.spec) as connection:
        connection.execute("DROP TABLE console.order_payouts, console.order_balances CASCADE")
        connection.execute("DROP TRIGGER pays_out ON console.refund_decisions")


def test_consoles_that_start_together_make_one_ledger(till: Till) -> None:
    with ThreadPoolExecutor(8) as pool:
        balances = set(pool.map(lambda _: till.refunds.ledger._balance("o-1"), range(16)))
    assert [balance.total_usd for balance in balances] == [TOTAL]


def test_the_database_refuses_whoever_writes_there(till: Till, business: Any) -> None:
    till.give("c-1", "90.00")
    written = """
        INSERT INTO console.refund_decisions (case_id, version, order_id, action, status_before,
            status, amount_before_usd, amount_usd, order_total_usd, reason, person, person_before,
            key, asked)
        VALUES ('o-1', 1, 'o-1', 'change', 'pending', 'changed', 0, 3.51, 93.50, '', 'x', '', 'k',
            '')
    """
    raised = "UPDATE console.order_payouts SET usd = 93.51 WHERE case_id = 'c-1'"
    moved = "UPDATE console.order_payouts SET order_id = 'o-2' WHERE case_id = 'c-1'"
    for statement in (written, raised, moved):
        with (
            business.connect(REFUND_CASES.spec) as connection,
            pytest.raises(psycopg.errors.CheckViolation),
        ):
            connection.execute(statement.encode())
    assert till.counted() == {"c-1": Decimal("90.00")}


def test_a_complaint_whose_answer_is_gone_or_names_another_order_stays_with_its_own(
    till: Till, business: Any
) -> None:
    till.give("c-1", "90.00")
    till.give("c-2", "1.00")
    business.worth("o-2", "500.00")
    with business.connect(COMPLAINT_CASES.spec) as connection:
        table = COMPLAINT_CASES.spec.target
        connection.execute(f"DELETE FROM {table} WHERE complaint_id = 'c-1'".encode())
        connection.execute(f"UPDATE {table} SET order_id = 'o-2'".encode())
    assert till.give("o-1", "3.00") == "above_total"
    assert till.decide("c-1", "reverse").order_id == "o-1"
    till.decide("c-2", "reverse")
    assert till.counted() == {}
    assert till.give("c-2", "93.51") == "above_total"
    assert till.give("o-1", TOTAL) is None


@pytest.mark.usefixtures("story_tables")
def test_pages_and_api_show_what_the_other_gave_and_what_is_left(
    till: Till, client: httpx.Client
) -> None:
    till.give("o-1", "90.00")
    till.give("c-1", "1.50")
    page = words(client.get("/complaints/case?case_id=c-2").text)
    assert (
        "Order total $93.50. Given: refund o-1 $90.00, complaint c-1 $1.50, left to give $2.00."
    ) in page
    own = words(client.get("/refunds/case?case_id=o-1").text)
    assert "Given: refund (this case) $90.00, complaint c-1 $1.50, left to give $2.00." in own
    order = client.get("/api/refunds/story?case_id=o-1").json()["order"]
    assert (order["total_usd"], order["left_usd"]) == ("93.50", "2.00")
    assert [(each["kind"], each["case_id"], each["usd"]) for each in order["given"]] == [
        ("refund", "o-1", "90.00"),
        ("complaint", "c-1", "1.50"),
    ]


@pytest.mark.usefixtures("story_tables")
def test_a_page_settles_what_a_killed_console_left(
    till: Till, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(monkeypatch, "after the claim")
    with pytest.raises(KilledError):
        till.decide("c-1", "change", "90.00")
    monkeypatch.undo()
    page = words(client.get("/refunds/case?case_id=o-1").text)
    assert "Order total $93.50. Given: nothing, left to give $93.50." in page


@pytest.mark.usefixtures("story_tables")
@pytest.mark.parametrize(
    ("total", "refused"), [("NaN", "no_total"), ("-1", "above_total"), ("0", "above_total")]
)
def test_a_total_that_is_no_amount_gives_nothing_and_is_shown(
    till: Till, business: Any, client: httpx.Client, total: str, refused: str
) -> None:
    with business.connect(REFUND_CASES.spec) as connection:
        table = ORDERS["orders"].target
        connection.execute(f"UPDATE {table} SET order_revenue = %s".encode(), (total,))
    assert {till.give(case_id, "0.01") for case_id in ("o-1", "c-1")} == {refused}
    assert client.get("/refunds/case?case_id=o-1").status_code == 200
    assert client.get("/api/complaints/story?case_id=c-1").status_code == 200
