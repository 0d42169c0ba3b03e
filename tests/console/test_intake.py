"""The table of cases follows the answers and the trail, on a real Postgres."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from caspers_lib.console.decisions import intake as module
from caspers_lib.console.decisions.cases import (
    Case,
    CaseFilter,
    case_cities,
    case_page,
    stream_cases,
)
from caspers_lib.console.decisions.figures import CaseFigures, CaseFiguresReader
from caspers_lib.console.decisions.intake import CaseIntake
from caspers_lib.console.decisions.values import COMPLAINT_CASES, REFUND_CASES, CaseKind
from caspers_lib.errors import PostgresError
from tests.console.conftest import ORDERS
from tests.console.page_text import words

ANSWERS = REFUND_CASES.spec.target
EVENTS = ORDERS["events"]


class Cities(dict[str, str]):
    """Cities of orders as the tests set them; counts who asked, and can be away."""

    def __init__(self, **known: str) -> None:
        super().__init__(known)
        self.asked: list[Sequence[str]] = []
        self.away = False

    def __call__(self, orders: Sequence[str]) -> Mapping[str, str]:
        self.asked.append(orders)
        if self.away:
            raise PostgresError("The database of the orders is away.")
        return {order: self[order] for order in orders if order in self}


def whole(
    business: Any, intake: CaseIntake | None = None, kind: CaseKind = REFUND_CASES
) -> tuple[tuple[Case, ...], CaseFigures]:
    """All cases and their sums, after what came was taken in."""
    with business.connect(kind.spec) as connection:
        (intake or CaseIntake(kind, Cities())).take_in(connection)
        cases = tuple(stream_cases(connection, kind, CaseFilter(status="all", sort="oldest")))
        return cases, CaseFiguresReader(kind).read(connection)


def ids(business: Any, intake: CaseIntake) -> list[str]:
    return [case.case_id for case in whole(business, intake)[0]]


def run(business: Any, *statements: str) -> None:
    with business.connect(REFUND_CASES.spec) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_what_comes_changes_and_goes_is_followed(business: Any) -> None:
    intake = CaseIntake(REFUND_CASES, Cities())
    business.refund("a", minute=1)
    business.refund("b", minute=2)
    assert ids(business, intake) == ["a", "b"]
    business.refund("late", minute=-500)
    run(business, f"UPDATE {ANSWERS} SET agent_response = '{{}}' WHERE order_id = 'a'")
    cases, _ = whole(business, intake)
    assert [(case.case_id, case.suggested_usd) for case in cases] == [
        ("late", Decimal("7.50")), ("a", None), ("b", Decimal("7.50")),
    ]  # fmt: skip
    run(business, f"DELETE FROM {ANSWERS} WHERE order_id = 'b'")
    business.refund("c", minute=3)
    assert ids(business, intake) == ["late", "a", "c"]
    run(business, f"TRUNCATE {ANSWERS}")
    assert whole(business, intake)[1].cases == 0


def test_nothing_is_written_where_nothing_changed(business: Any) -> None:
    intake = CaseIntake(REFUND_CASES, Cities())
    business.refund("a")
    whole(business, intake)
    run(business, f"UPDATE {ANSWERS} SET order_ts = order_ts")
    rows = f"SELECT ctid::text, xmin::text FROM {REFUND_CASES.cases}"
    with business.connect(REFUND_CASES.spec) as connection:
        before = connection.execute(rows.encode()).fetchall()
        assert intake.take_in(connection) == 1
        assert connection.execute(rows.encode()).fetchall() == before


def test_a_writer_that_is_not_done_yet_is_not_missed(business: Any) -> None:
    intake = CaseIntake(REFUND_CASES, Cities())
    with business.connect(REFUND_CASES.spec) as slow:
        query = f"INSERT INTO {ANSWERS} VALUES ('slow', now(), now(), '{{}}')"
        slow.execute(query.encode())
        business.refund("quick")
        assert ids(business, intake) == ["quick"]
    business.refund("next")
    assert sorted(ids(business, intake)) == ["next", "quick", "slow"]


def test_rows_without_a_number_of_their_own_are_found_by_the_count(business: Any) -> None:
    intake = CaseIntake(REFUND_CASES, Cities())
    whole(business, intake)
    with business.connect(REFUND_CASES.spec) as connection:
        connection.execute(f"TRUNCATE {ANSWERS}".encode())
        copy = f"COPY {ANSWERS} (order_id, ts) FROM STDIN (FREEZE)"
        with connection.cursor().copy(copy.encode()) as rows:
            rows.write_row(("frozen", "2024-03-11 12:00+00"))
    assert ids(business, intake) == ["frozen"]


@pytest.mark.parametrize("seen", ["9000000000000000000", "3"])
def test_a_position_of_another_server_or_of_long_ago_is_none(
    business: Any, monkeypatch: pytest.MonkeyPatch, seen: str
) -> None:
    monkeypatch.setattr(module, "_FORGETS_AFTER", 1)
    intake = CaseIntake(REFUND_CASES, Cities())
    business.refund("a")
    whole(business, intake)
    run(business, f"UPDATE {REFUND_CASES.cases} SET words = 'wrong'",
        f"UPDATE console.positions SET seen = '{seen}'")  # fmt: skip
    [case], _ = whole(business, intake)
    assert (case.words or "").startswith("Slower than")


def test_a_decision_outlives_its_answer_and_the_table(business: Any, client: Any) -> None:
    business.refund("o-1")
    business.worth("o-1", "40")
    decision = {"case_id": "o-1", "version": 0, "action": "approve", "amount_usd": 7.5, "key": "k"}
    assert client.post("/api/refunds/decisions", json={"decisions": [decision]}).is_success
    intake = CaseIntake(REFUND_CASES, Cities())
    run(business, f"DELETE FROM {ANSWERS}")
    cases, figures = whole(business, intake)
    assert (cases, figures.decided, figures.given_usd) == ((), 1, Decimal("7.50"))
    business.refund("o-1")
    run(business, f"DROP TABLE {REFUND_CASES.cases}, console.positions")
    [case], figures = whole(business, intake)
    assert (case.status, case.version, figures.given_usd) == ("approved", 1, Decimal("7.50"))
    run(business, f"DROP TABLE {REFUND_CASES.cases}")
    assert whole(business, intake)[0] == (case,)


def test_a_decision_about_what_was_not_taken_in_yet_keeps_its_place(
    business: Any, client: Any
) -> None:
    assert client.get("/api/refunds").is_success
    business.refund("o-1")
    business.worth("o-1", "40")
    decision = {"case_id": "o-1", "version": 0, "action": "reject", "key": "k"}
    assert client.post("/api/refunds/decisions", json={"decisions": [decision]}).is_success
    assert client.get("/api/refunds?status=all").json()["rows"][0]["status"] == "rejected"


def test_who_decides_while_answers_are_taken_in_loses_nothing(business: Any, client: Any) -> None:
    for number in range(20):
        business.refund(f"o-{number}")
        business.worth(f"o-{number}", "40")

    def decide(number: int) -> bool:
        wanted = {"case_id": f"o-{number}", "version": 0, "action": "reject", "key": f"{number}"}
        return bool(client.post("/api/refunds/decisions", json={"decisions": [wanted]}).is_success)

    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(whole, business) for _ in range(20)]
        assert all(pool.map(decide, range(20)))
        assert all(reader.result() for reader in readers)
    cases, figures = whole(business)
    assert ({case.status for case in cases}, len(cases), figures.decided) == ({"rejected"}, 20, 20)


def test_a_city_is_asked_for_until_it_is_known_and_kept_while_it_can_not_be(
    business: Any,
) -> None:
    cities = Cities(b="Paris")
    intake = CaseIntake(REFUND_CASES, cities)
    business.refund("a")
    business.refund("b")
    assert {case.case_id: case.city for case in whole(business, intake)[0]} == {
        "a": None, "b": "Paris",
    }  # fmt: skip
    cities["a"] = ""
    assert {case.city for case in whole(business, intake)[0]} == {"", "Paris"}
    cities.asked.clear()
    whole(business, intake)
    assert cities.asked == []
    cities.away = True
    run(business, f"UPDATE {ANSWERS} SET agent_response = '{{}}'")
    assert {case.city for case in whole(business, intake)[0]} == {"", "Paris"}


def test_more_orders_than_are_asked_for_at_once_are_all_asked_for(
    business: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ASKED_AGAIN", 2)
    monkeypatch.setattr(module, "_BATCH", 2)
    cities = Cities()
    intake = CaseIntake(REFUND_CASES, cities)
    for number in range(5):
        business.refund(f"o-{number}")
    assert len(ids(business, intake)) == 5
    cities |= {f"o-{number}": "Rome" for number in range(5)}
    for _ in range(3):
        whole(business, intake)
    assert {case.city for case in whole(business, intake)[0]} == {"Rome"}


def test_the_list_is_narrowed_to_a_city_and_the_page_offers_those_there_are(
    business: Any, client: httpx.Client
) -> None:
    hostile = "<b>'; DROP TABLE x; --"
    for location, name in ((1, "Chicago"), (2, hostile), (3, "Nowhere")):
        business.city(location, name)
    for order, location in (("a", 1), ("b", 2)):
        business.order(order, location=location)
        business.refund(order)
        business.complaint(f"c-{order}", order=order)
    with business.connect(REFUND_CASES.spec) as connection:
        assert client.get("/api/refunds/cities").json() == [hostile, "Chicago"]
        assert case_cities(connection, REFUND_CASES) == (hostile, "Chicago")
    for kind, first in (("refunds", "b"), ("complaints", "c-b")):
        listed = client.get(f"/api/{kind}", params={"city": hostile}).json()
        assert [row["case_id"] for row in listed["rows"]] == [first]
        page = client.get(f"/{kind}", params={"city": "Chicago"}).text
        assert '<option value="Chicago" selected>' in page
        assert "Nowhere" not in page
        assert "DROP TABLE x" in words(page)
    assert '<option value="Oz" selected>' in client.get("/refunds?city=Oz").text


@pytest.mark.usefixtures("story_tables")
def test_answers_that_are_text_are_read_as_json(business: Any, client: httpx.Client) -> None:
    """Databricks keeps a string a string."""
    business.refund("good")
    business.order("good")
    business.worth("good", "40")
    business.complaint("c-1", order="good")
    business.event("good", "driver_picked_up", {"route_points": [[1, 2], [1.1, 2]]}, minute=20)
    for spec, column in ((REFUND_CASES.spec, "agent_response"),
                         (COMPLAINT_CASES.spec, "agent_response"),
                         (EVENTS, "body")):  # fmt: skip
        with business.connect(spec) as connection:
            query = f"ALTER TABLE {spec.target} ALTER COLUMN {column} TYPE text"
            connection.execute(query.encode())
    broken = [
        "",
        "{",
        '{"reason": "\\u0000"}',
        '"\\ud800"',
        '{"refund_usd": 1e999999}',
        "[" * 9_000,
    ]
    with business.connect(REFUND_CASES.spec) as connection:
        for number, text in enumerate(broken):
            query = f"INSERT INTO {ANSWERS} VALUES (%s, now(), now(), %s)"
            connection.execute(query.encode(), (f"bad {number}", text))
    rows = client.get("/api/refunds?status=all&sort=oldest").json()["rows"]
    assert [row["suggested_usd"] for row in rows] == ["7.50", *[None] * len(broken)]
    assert client.get("/api/refunds/figures").json()["unreadable"] == len(broken)
    [complaint] = client.get("/api/complaints").json()["rows"]
    assert complaint["suggested_reply"] == "We are sorry that it took so long."
    story = client.get("/api/refunds/story?case_id=good").json()
    assert story["order"]["drawing"]["route"]
    decision = {"case_id": "good", "version": 0, "action": "approve", "amount_usd": 7.5, "key": "k"}
    assert client.post("/api/refunds/decisions", json={"decisions": [decision]}).is_success
    live = words(client.get("/").text)
    assert "can't be read" not in live
    assert "The order took 71 minutes" in live


def test_a_role_that_may_only_read_is_told_what_it_lacks(business: Any, serve: Any) -> None:
    business.refund("a")
    with business.connect(REFUND_CASES.spec) as connection:
        connection.execute(
            "DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN;"
            "GRANT USAGE ON SCHEMA recommender TO guest;"
            "GRANT SELECT ON ALL TABLES IN SCHEMA recommender TO guest"
        )
    name = REFUND_CASES.spec.database
    business.addresses[name] = make_conninfo(business.server.dsn(name), user="guest")
    with serve(business.parts()) as server, httpx.Client(base_url=server.url) as client:
        answer = client.get("/api/refunds")
        assert (answer.status_code, answer.json()["code"]) == (503, "no_right")
        assert "GRANT it CREATE on the database" in words(client.get("/refunds").text)
    with business.connect(REFUND_CASES.spec) as connection:
        connection.execute("DROP OWNED BY guest; DROP ROLE guest")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "delete", "truncate", "take in"]),
            st.integers(0, 4),
            st.sampled_from([None, {}, {"refund_usd": 3, "refund_class": "partial"}, []]),
        ),
        max_size=12,
    )
)
def test_however_it_is_cut_the_table_equals_one_made_anew(
    business: Any, moves: list[tuple[str, int, object]]
) -> None:
    intake = CaseIntake(REFUND_CASES, Cities())
    run(business, f"TRUNCATE {ANSWERS}")
    for what, number, answer in moves:
        with business.connect(REFUND_CASES.spec) as connection:
            if what == "take in":
                intake.take_in(connection)
            elif what == "truncate":
                connection.execute(f"TRUNCATE {ANSWERS}".encode())
            else:
                connection.execute(f"DELETE FROM {ANSWERS} WHERE order_id = '{number}'".encode())
            if what == "put":
                query = f"INSERT INTO {ANSWERS} VALUES (%s, now(), now(), %s)"
                connection.execute(query.encode(), (f"{number}", json.dumps(answer)))
    followed = whole(business, intake)
    run(business, f"DROP TABLE {REFUND_CASES.cases}, console.positions")
    anew = whole(business)
    assert sorted(followed[0], key=lambda case: case.case_id) == sorted(
        anew[0], key=lambda case: case.case_id
    )
    assert followed[1] == anew[1]


@pytest.mark.parametrize("kind", [REFUND_CASES, COMPLAINT_CASES])
def test_each_way_to_narrow_and_sort_has_an_index(business: Any, kind: CaseKind) -> None:
    """At a million cases no list may look through the table."""
    words = "rationale" if kind.has_reply else "reason"
    with business.connect(kind.spec) as connection:
        many = (
            f"INSERT INTO {kind.spec.target} ({kind.key}, ts, agent_response) SELECT i::text,"
            f" now(), jsonb_build_object('{words}', i) FROM generate_series(1, 3000) AS i"
        )
        connection.execute(many.encode())
        CaseIntake(kind, Cities()).take_in(connection)
        connection.execute(f"ANALYZE {kind.cases}".encode())
        connection.execute("SET enable_seqscan = off; SET enable_sort = off")
        for where, order in (
            ("is_open", "at DESC, number DESC"),
            ("is_listed", "at, number"),
            ("is_listed AND label = 'full'", "at DESC, number DESC"),
            ("is_listed AND source = 'model'", "at DESC, number DESC"),
            ("is_listed AND city = 'Rome'", "at DESC, number DESC"),
            ("is_open AND label = 'full'", "at DESC, number DESC"),
            ("is_open AND source = 'model'", "at DESC, number DESC"),
            ("is_open AND city = 'Rome'", "at DESC, number DESC"),
            ("is_listed AND status = 'approved'", "at DESC, number DESC"),
            ("is_open", "worth DESC, number DESC"),
            ("is_listed", "worth DESC, number DESC"),
            *(
                (where, "rank DESC, at DESC, number DESC")
                for where in ("is_open", "is_listed")
                if kind.has_reply
            ),
        ):
            query = f"SELECT FROM {kind.cases} WHERE {where} ORDER BY {order} LIMIT 25"
            plan = str(connection.execute(f"EXPLAIN {query}".encode()).fetchall())
            assert "Index" in plan, plan
            assert "Sort" not in plan, plan
        found = f"SELECT FROM {kind.cases} WHERE is_listed AND words ILIKE '%1234%'"
        plan = str(connection.execute(f"EXPLAIN {found}".encode()).fetchall())
        assert f"{kind.name}_by_words" in plan


def test_a_page_of_a_filter_is_what_the_filter_says(business: Any) -> None:
    cities = Cities(a="Rome", b="Oslo", c="Rome")
    for number, order in enumerate("abc"):
        business.refund(order, minute=number, refund_usd=number, source="model" if number else "x")
    with business.connect(REFUND_CASES.spec) as connection:
        CaseIntake(REFUND_CASES, cities).take_in(connection)
        wanted = CaseFilter(city="Rome", source="model", min_usd="1", status="all")
        page = case_page(connection, REFUND_CASES, wanted)
    assert ([case.case_id for case in page.rows], page.count, page.next) == (["c"], 1, None)
