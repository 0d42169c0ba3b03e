"""Agent evaluation: the golden set, people's labels, questions, the report and the command."""

import json
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from hashlib import md5
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from caspers_lib.agents import evaluation
from caspers_lib.agents.complaint_draws import COMPLAINT_SEED, complaint_category, complaint_id
from caspers_lib.agents.complaint_texts import complaint_text
from caspers_lib.agents.evaluation import GoldenCase, Verdict, golden_cases, golden_refunds
from caspers_lib.agents.labels import read_labels
from caspers_lib.agents.model import instructions
from caspers_lib.agents.model.asking import AnsweredQuestion
from caspers_lib.agents.model.settings import MODEL_KEY
from caspers_lib.agents.refund_policy import OrderFacts, RefundPolicy
from caspers_lib.agents.triage_answer import Complaint, OrderLine
from caspers_lib.agents.triage_policy import TriagePolicy
from caspers_lib.cli import app
from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import DatasetError, ModelUnavailableError, RootLockedError, SettingsError
from caspers_lib.replay.sample import sample_dataset
from caspers_lib.runtime.local_root import LocalRoot, Owner, owned
from caspers_lib.runtime.settings import load_settings
from tests.agents.model_server import KEY, ModelServer, said

EPOCH = 1_704_067_200
HOUR = 3_600
LIMIT = instructions.TEXT_CHARACTERS
SAMPLE = sample_dataset()
HOSTILE_ORDER = "o\x00'\"\\\n<script>alert(1)</script>'); DROP TABLE events; --"
HOSTILE_DISH = "Pho\x00'\"\\\n<b>{dish}{wait}%s$1"
HOSTILE = "o'\"\\/\n\t<script>&alert(1)</script> é漢\U0001f35c\x7f"
NOTHING = json.dumps({"refund_usd": 0, "refund_class": "none", "reason": "[red]No\x07[/red]"})


COLUMNS = {
    "event_type_id": pa.int8(), "ts_seconds": pa.int64(), "location_id": pa.int8(),
    "order_id": pa.string(), "customer_addr": pa.string(), "items_json": pa.string(),
}  # fmt: skip


class DataOrder(NamedTuple):
    """An order of a dataset; seconds count from `EPOCH`, None leaves the event out."""

    order_id: str
    location_id: int
    created: int | None
    delivered: int | None
    lines: tuple[tuple[str, str, int], ...] = (("Noodle Bowl", "12.00", 1),)


def write_events(path: Path, orders: Iterable[DataOrder], items: str | None = None) -> Path:
    """Write the orders' events, the first hundred of them two times."""
    rows: list[tuple[object, ...]] = []
    for order_id, location, created, delivered, lines in orders:
        sold = json.dumps([{"name": n, "price": float(p), "qty": q} for n, p, q in lines])
        if created is not None:
            address = " 5 Elm Street, Springfield"
            rows.append((1, EPOCH + created, location, order_id, address, items or sold))
        if delivered is not None:
            rows.append((8, EPOCH + delivered, location, order_id, None, None))
    columns = dict(zip(COLUMNS, zip(*rows, *rows[:100], strict=True), strict=True))
    pq.write_table(pa.table(columns, schema=pa.schema(COLUMNS)), path)
    return path


def some_orders() -> list[DataOrder]:
    """About 400 orders of two locations in 50 hours, and some that are odd."""
    rng = random.Random(5)
    orders = []
    for n in range(400):
        created = rng.randrange(50 * HOUR)
        took = round(rng.lognormvariate(7.7, 0.4))
        lines = tuple(
            (rng.choice(["Soup", "Rice", HOSTILE_DISH]), f"{rng.randint(100, 2500) / 100:.2f}", q)
            for q in range(1, rng.randint(2, 4))
        )
        orders.append(DataOrder(f"o-{n}", rng.choice([1, 2]), created, created + took, lines))
    odd_lines = (("Soup", "5.00", 1), ("Rice", "3", 0))
    return [
        *orders,
        DataOrder(HOSTILE_ORDER, 1, 30 * HOUR, 33 * HOUR), DataOrder("no creation", 1, None, HOUR),
        DataOrder("extreme", 2, 25 * HOUR, 45 * HOUR), DataOrder("under way", 2, 49 * HOUR, None),
        DataOrder("at once", 2, 40 * HOUR, 40 * HOUR), DataOrder("backwards", 1, 31 * HOUR, HOUR),
        DataOrder("a day", 1, 24 * HOUR, 48 * HOUR), DataOrder("longer", 2, 1, 24 * HOUR + 2),
        DataOrder("no lines", 2, 41 * HOUR, 43 * HOUR, ()),
        DataOrder("no quantity", 2, 41 * HOUR, 43 * HOUR, odd_lines),
        DataOrder("nameless", 2, 41 * HOUR, 43 * HOUR, (("", "5.00", 2),)),
        DataOrder("elsewhere", 3, 47 * HOUR, 49 * HOUR),
    ]  # fmt: skip


ORDERS = some_orders()
DELIVERED = [order for order in ORDERS if order.delivered is not None]
FACTS = OrderFacts(
    location_id=2, delivered=True, total_minutes=Decimal("61.05"), order_total=Decimal("20.30"),
    history_orders=80, p75=Decimal("40.00"), p99=Decimal("60.00"),
)  # fmt: skip


def golden_order(
    order_id: str, facts: OrderFacts = FACTS, *dishes: str, decision: str = "none", usd: str = ""
) -> GoldenCase:
    lines = tuple(OrderLine(item_name=dish, price=Decimal("7.30")) for dish in dishes)
    return GoldenCase(
        key=order_id, kind="with a history", order_id=order_id, facts=facts, lines=lines,
        street="5 Elm Street",
        expected=Verdict(decision=decision, usd=Decimal(usd) if usd else None),
    )  # fmt: skip


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    # A file beside it that a pattern would find.
    write_events(folder / "e1.parquet", [DataOrder("of another dataset", 1, 0, 60)])
    return write_events(folder / "e[1]*.parquet", ORDERS)


@pytest.fixture(scope="module")
def golden(events: Path) -> dict[str, GoldenCase]:
    return {case.order_id: case for case in golden_refunds(events)}


def half_up(exact: Fraction) -> Decimal:
    return Decimal(math.floor(exact * 100 + Fraction(1, 2))).scaleb(-2)


def minutes(order: DataOrder) -> Decimal | None:
    if order.created is None or order.delivered is None:
        return None
    took = order.delivered - order.created
    return half_up(Fraction(took, 60)) if 0 <= took <= 24 * HOUR else None


def total(order: DataOrder) -> Decimal | None:
    sound = order.lines and all(qty >= 1 for _, _, qty in order.lines)
    if not sound or minutes(order) is None:
        return None
    return sum((Decimal(price) * qty for _, price, qty in order.lines), Decimal("0.00"))


def history(order: DataOrder) -> list[Decimal]:
    hour = order.delivered // HOUR * HOUR if order.delivered is not None else 0
    return sorted(
        took
        for other in DELIVERED
        if other.location_id == order.location_id
        and hour - 24 * HOUR <= (other.delivered or 0) < hour
        and (took := minutes(other)) is not None
    )


def percentile(values: list[Decimal], percent: int) -> Decimal | None:
    if not values:
        return None
    position = Fraction((len(values) - 1) * percent, 100)
    low, high = (Fraction(values[at]) for at in (math.floor(position), math.ceil(position)))
    return half_up(low + (high - low) * (position - math.floor(position)))


def wrong_answers(cases: Sequence[GoldenCase]) -> list[Any]:
    agent = "complaint" if cases[0].complaint else "refund"
    report = evaluation.evaluation_report(agent, cases, evaluation.rule_answers(cases))
    return list(report["worst"])


def test_facts_and_contents_are_those_of_a_plain_computation(golden: dict[str, GoldenCase]) -> None:
    for order in DELIVERED:
        before, case = history(order), golden[order.order_id]
        assert case.facts == OrderFacts(
            location_id=order.location_id, delivered=True, total_minutes=minutes(order),
            order_total=total(order), history_orders=len(before), p75=percentile(before, 75),
            p99=percentile(before, 99),
        )  # fmt: skip
        lines = [(line.item_name, line.price) for line in case.lines]
        sold = [(name, Decimal(price)) for name, price, _ in order.lines]
        assert lines == ([] if total(order) is None else sold)
        assert case.street == (None if minutes(order) is None else "5 Elm Street")


def test_the_share_changes_at_the_published_bounds(tmp_path: Path) -> None:
    usual = [DataOrder(f"u-{n}", 1, 0, HOUR // 2) for n in range(4)]
    slow = DataOrder("slow", 1, 0, HOUR)  # makes the P99 58.80 minutes
    for took, decision, usd in (
        (1800, "none", "0.00"), (1801, "partial", "8.33"), (3528, "partial", "8.33"),
        (3529, "partial", "16.67"), (7055, "partial", "16.67"), (7056, "full", "33.33"),
    ):  # fmt: skip
        judged = DataOrder("judged", 1, 8 * HOUR, 8 * HOUR + took, (("Soup", "11.11", 3),))
        path = write_events(tmp_path / "events.parquet", [*usual, slow, judged])
        expected = golden_refunds(path)[-1].expected
        assert expected == Verdict(decision=decision, usd=Decimal(usd)), took


def test_a_sample_has_the_lowest_draws_and_what_is_named_in_the_order_of_delivery(
    events: Path, golden: dict[str, GoldenCase]
) -> None:
    def drawn(order_id: str) -> str:
        return md5(f"42:golden:{order_id}".encode(), usedforsecurity=False).hexdigest()

    delivered = {order.order_id: order.delivered for order in DELIVERED}
    assert list(golden) == sorted(golden, key=lambda o: (delivered[o], o))
    lowest = sorted(golden, key=drawn)
    for count in (1, 30, 10_000):
        cases = golden_refunds(events, orders=count)
        assert {case.order_id for case in cases} == set(lowest[:count])
        assert list(cases) == [golden[case.order_id] for case in cases]
    named = golden_refunds(events, orders=1, also=[HOSTILE_ORDER, "under way", "nowhere"])
    assert {case.order_id for case in named} == {lowest[0], HOSTILE_ORDER}


def test_a_file_that_is_no_dataset_is_one_error_that_names_it(tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_text("not parquet")
    unread = write_events(tmp_path / "items.parquet", [DataOrder("o", 1, 0, 60)], items="[{")
    for path in (tmp_path / "no-such-file", broken, unread):
        with pytest.raises(DatasetError, match=f"{path.name} can't be read") as refused:
            golden_refunds(path)
        assert "\n" not in refused.value.message


def test_the_rules_are_right_about_each_order_and_each_kind_of_complaint(
    golden: dict[str, GoldenCase],
) -> None:
    sample = golden_refunds(SAMPLE)
    assert len(sample) == 1655
    for orders in (sample, list(golden.values())):
        complaints = evaluation.golden_complaints(orders)
        assert wrong_answers(orders) == wrong_answers(complaints) == []
        assert {case.kind for case in complaints} == set(evaluation.COMPLAINT_KINDS)
        assert len({case.key for case in complaints}) == len(orders)
    decisions = {case.expected.decision for case in (*orders, *complaints)}
    assert decisions == {"none", "partial", "full", "error", "suggest_credit", "escalate"}
    assert any(HOSTILE_DISH in str(case.complaint and case.complaint.text) for case in complaints)


def all_kinds(facts: OrderFacts, *dishes: str) -> dict[str, GoldenCase]:
    orders = [golden_order(f"o-{n}", facts, *dishes) for n in range(400)]
    others = golden_order("others", facts, "Lentil Stew", "Bug Juice")
    return {case.kind: case for case in evaluation.golden_complaints([*orders, others])[:-1]}


def test_what_is_right_follows_from_the_kind() -> None:
    cases = all_kinds(FACTS, "Noodle Bowl", "Soup")
    right = {kind: (case.expected.label, case.expected.usd) for kind, case in cases.items()}
    credit, person = "suggest_credit", "escalate standard"
    assert right == {
        "delay": (credit, Decimal("6.00")), "missing dish": (credit, Decimal("7.50")),
        "missing dish of another order": (person, None), "missing, unnamed": (person, None),
        "quality, severe": (credit, Decimal("7.50")), "quality, usual": (credit, Decimal("3.50")),
        "quality, mild": (credit, Decimal("2.00")), "quality, unnamed": (person, None),
        "service": ("escalate high", None), "billing": ("escalate high", None),
        "other": (person, None), "urgent": ("escalate urgent", None), "vague": (person, None),
    }  # fmt: skip
    # Neither a dish of this order, nor one whose name is a word of danger.
    assert "Lentil Stew" in str(cases["missing dish of another order"].complaint)


def test_facts_say_how_much_is_credited_and_what_is_unknown_or_not_covered_limits_it() -> None:
    for took, usd in (("40.00", 0), ("40.01", 3), ("60.00", 3), ("60.01", 6)):
        late = all_kinds(replace(FACTS, total_minutes=Decimal(took)), "Soup")["delay"]
        assert late.expected == Verdict(decision="suggest_credit", usd=Decimal(usd))
        assert f"{took[:2]} minutes" in str(late.complaint)
    short = all_kinds(replace(FACTS, history_orders=4), "Soup")["delay"]
    assert short.expected == Verdict(decision="escalate", priority="standard")
    cheap = all_kinds(replace(FACTS, order_total=Decimal("7.30")), "Soup")["missing dish"]
    assert cheap.expected.usd == Decimal("7.00")
    unknown = all_kinds(replace(FACTS, total_minutes=None, order_total=None))
    assert {kind for kind, case in unknown.items() if case.expected.decision == "error"} == {
        "delay", "missing dish of another order", "missing, unnamed", "quality, unnamed",
    }  # fmt: skip
    assert wrong_answers(list(unknown.values())) == []


@pytest.mark.parametrize(
    "dishes",
    [("Rice", "Fried Rice"), ("Soup", "Soup"), ("bag",), ("a", "e", " "), ("?!", "..."),
     ("Sick Puppy Bug Soup", "Slightly Rotten Egg"), ("",)],
)  # fmt: skip
def test_dishes_that_leave_a_doubt_are_not_named(dishes: tuple[str, ...]) -> None:
    cases = all_kinds(FACTS, *dishes)
    assert "service" in cases
    assert wrong_answers(list(cases.values())) == []


def written(path: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_labels_are_read_by_id_and_the_last_line_counts(tmp_path: Path) -> None:
    lost = {"order_id": HOSTILE, "refund_usd": 1.1, "decided_by": "ann"}
    refunds = written(tmp_path / "refunds", lost, "", {"order_id": HOSTILE, "refund_usd": 7.88})
    labels = read_labels(refunds, "refund")
    assert {key: label.usd for key, label in labels.items()} == {HOSTILE: Decimal("7.88")}
    complaints = written(
        tmp_path / "complaints",
        {"complaint_id": "c", "decision": "suggest_credit", "credit_amount": 3.5},
        {"complaint_id": "d", "decision": "escalate", "credit_amount": None, "priority": "urgent"},
    )
    assert read_labels(complaints, "complaint") == {
        "c": Verdict(decision="suggest_credit", usd=Decimal("3.50")),
        "d": Verdict(decision="escalate", priority="urgent"),
    }


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "line 2: Invalid JSON"), ({"order_id": "b"}, "line 2, refund_usd"),
        ({"order_id": "", "refund_usd": 1}, "line 2, order_id"),
        ({"order_id": "b", "refund_usd": -1}, "line 2, refund_usd"),
        ({"order_id": "b", "refund_usd": 1.234}, "line 2, refund_usd"),
        ('{"order_id": "b", "refund_usd": NaN}', "line 2"),
        ({"decision": "suggest_credit"}, "line 2"), ({"decision": "approve"}, "line 2, decision"),
        ({"decision": "escalate", "credit_amount": 1}, "line 2"),
        ({"decision": "suggest_credit", "credit_amount": 1, "priority": "high"}, "line 2"),
        ({"decision": "escalate", "priority": "soon"}, "line 2, priority"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_label_is_one_error_that_names_it(
    row: Any, reason: str, tmp_path: Path
) -> None:
    is_complaint = "decision" in row
    path = written(tmp_path / "labels", "", row | {"complaint_id": "c"} if is_complaint else row)
    with pytest.raises(DatasetError, match=reason) as refused:
        read_labels(path, "complaint" if is_complaint else "refund")
    assert str(path) in refused.value.message
    assert "\n" not in refused.value.message
    assert ("complaint_id, decision" if is_complaint else "order_id") in refused.value.hint
    with pytest.raises(DatasetError, match="No such file"):
        read_labels(tmp_path / "none", "refund")


def test_a_label_replaces_what_is_computed_for_its_case_alone() -> None:
    orders = golden_cases(SAMPLE, "refund", orders=5, labels={})
    paid = orders[1].facts.order_total or Decimal(0)
    for usd, decision in ((Decimal(0), "none"), (paid / 2, "partial"), (paid, "full")):
        labels = {orders[1].key: Verdict(decision="partial", usd=usd)}
        labelled = golden_cases(SAMPLE, "refund", orders=5, labels=labels)
        assert labelled[1].expected == Verdict(decision=decision, usd=usd)
        assert [case.is_labelled for case in labelled] == [False, True, False, False, False]
        assert (labelled[0], *labelled[2:]) == (orders[0], *orders[2:])
    above = {orders[0].key: Verdict(decision="partial", usd=Decimal(10_000))}
    with pytest.raises(DatasetError, match="its total is"):
        golden_cases(SAMPLE, "refund", orders=5, labels=above)
    complaint, label = evaluation.golden_complaints(orders)[2], Verdict(decision="escalate")
    cases = golden_cases(SAMPLE, "complaint", orders=5, labels={complaint.key: label})
    assert [case.expected == label for case in cases] == [case.is_labelled for case in cases]
    assert label.allows(Verdict(decision="escalate", priority="urgent"))
    assert not label.allows(Verdict(decision="suggest_credit", usd=Decimal(1)))


def test_a_labelled_complaint_of_the_local_business_has_its_id_and_words() -> None:

    label = Verdict(decision="suggest_credit", usd=Decimal("3.00"))
    orders = golden_refunds(SAMPLE, orders=5)
    keys = [complaint_id(order.order_id, GHOST_KITCHEN.namespace) for order in orders]
    cases = golden_cases(SAMPLE, "complaint", orders=1, labels=dict.fromkeys(keys, label))[1:]
    assert [case.key for case in cases] == keys
    assert {(case.kind, case.expected) for case in cases} == {("written", label)}
    for order, case in zip(orders, cases, strict=True):
        text = complaint_text(
            order.order_id, COMPLAINT_SEED, dishes=[line.item_name for line in order.lines],
            total_minutes=order.facts.total_minutes, street=order.street,
        )  # fmt: skip
        category = complaint_category(order.order_id, COMPLAINT_SEED)
        assert case.complaint == Complaint(order_id=order.order_id, category=category, text=text)


ASKED = [
    golden_order(order_id, replace(FACTS, **facts), HOSTILE, "Rice")  # type: ignore[arg-type]
    for order_id, facts in (
        (HOSTILE, {}),
        ("on time", {"total_minutes": Decimal("40"), "p75": Decimal("40.00")}),
        ("just late", {"total_minutes": Decimal("40.01"), "order_total": Decimal("0.00")}),
        ("short history", {"history_orders": 4}),
        ("no history", {"history_orders": 0, "p75": None, "p99": None}),
        ("unknown time", {"total_minutes": None}),
        ("unknown total", {"order_total": None}),
    )
]
COMPLAINTS = [
    replace(
        order, key=f"c-{n}-{len(text)}",
        complaint=Complaint(order_id=order.order_id, category="delivery_delay", text=text),
    )
    for n, order in enumerate(ASKED)
    for text in (HOSTILE, "", "x" * LIMIT, "漢" * (LIMIT + 1))
]  # fmt: skip


@pytest.mark.spark
def test_questions_are_those_of_the_streams(spark: Any) -> None:
    from caspers_lib.agents.model.prompts import complaint_questions, refund_questions

    noon = datetime(2024, 3, 1, 12, tzinfo=UTC)
    orders = [
        (o.order_id, noon, o.facts.location_id, o.facts.total_minutes, o.facts.order_total,
         o.facts.history_orders, o.facts.p75, o.facts.p99,
         [(n, line.item_name, line.price) for n, line in enumerate(o.lines)])
        for o in ASKED
    ]  # fmt: skip
    facts = spark.createDataFrame(
        orders,
        "order_id STRING, delivered_ts TIMESTAMP, location_id INT, total_minutes DECIMAL(12,2),"
        " order_total DECIMAL(22,2), history_orders INT, p75 DECIMAL(12,2), p99 DECIMAL(12,2),"
        " lines ARRAY<STRUCT<line: INT, item_name: STRING, price: DECIMAL(12,2)>>",
    )
    texts = [(c.key, c.order_id, noon, "delivery_delay", c.complaint.text)
             for c in COMPLAINTS if c.complaint]  # fmt: skip
    names = ["complaint_id", "order_id", "ts", "complaint_category", "complaint_text"]
    raw = spark.createDataFrame(texts, names)
    for streamed, cases in (
        (refund_questions(facts, RefundPolicy()), ASKED),
        (complaint_questions(raw, facts), COMPLAINTS),
    ):
        questions = {
            q.key: (q.order_id, q.order_total, q.messages[1].content)
            for q in evaluation.model_questions(cases)
        }
        assert questions == {r.key: (r.order_id, r.at_most, r.facts) for r in streamed.collect()}


def test_a_model_is_told_the_policy_and_asked_about_facts_that_are_data() -> None:
    refunds = list(evaluation.model_questions(ASKED))
    complaint, *_, long = list(evaluation.model_questions(COMPLAINTS))[:4]
    assert [question.order_total for question in refunds] == [Decimal("20.30"), 0, 0, 0, 0]
    system, user = refunds[0].messages
    assert system.content == instructions.refund_instructions(RefundPolicy())
    assert complaint.messages[0].content == instructions.complaint_instructions(TriagePolicy())
    assert json.loads(user.content)["order_id"] == HOSTILE
    assert json.loads(complaint.messages[1].content)["lines"][0]["item_name"] == HOSTILE
    facts = json.loads(long.messages[1].content)
    assert (len(facts["complaint_text"]), facts["complaint_text_is_cut"]) == (LIMIT, True)


def given(key: str, decision: str, usd: float = 0, **more: Any) -> AnsweredQuestion:
    answer = {"refund_class": decision, "refund_usd": usd, "reason": f"why {key}"}
    answer["source"] = "error" if decision == "error" else "model"
    answered = AnsweredQuestion(
        key=key, response=json.dumps(answer), reason=None, kind="answered", calls=1, input_tokens=7,
        output_tokens=5, usd=Decimal("0.01"), seconds=2.0, cached=False,
    )  # fmt: skip
    return replace(answered, **more)


def test_a_report_tells_what_agrees_what_it_costs_and_what_is_worst() -> None:
    right = {
        "a": ("none", "0.00"), "b": ("partial", "10.00"), "c": ("partial", "20.00"),
        "d": ("full", "40.00"), "e": ("error", ""), HOSTILE_ORDER: ("partial", "10.00"),
    }  # fmt: skip
    cases = [golden_order(key, decision=d, usd=usd) for key, (d, usd) in right.items()]
    cases[2] = replace(cases[2], is_labelled=True)
    answers = [
        given("e", "error", calls=0), given("a", "none", calls=0),
        given(HOSTILE_ORDER, "none", response=None, reason="no JSON", kind="unreadable"),
        given("b", "partial", 9.99, calls=2, seconds=3.0), given("c", "full", 40, seconds=1.0),
    ]  # fmt: skip
    report = evaluation.evaluation_report("refund", cases, answers, answered_by="me", worst=3)
    worst = report.pop("worst")
    assert report == {
        "agent": "refund", "answered_by": "me", "cases": 6, "answered": 4, "labelled": 1,
        "exact": {"cases": 2, "share": pytest.approx(1 / 3)},
        "same_decision": {"cases": 3, "share": 0.5},
        "mean_error_usd": Decimal("6.6700"), "priced": 3,
        "confusion": {
            "none": {"none": 1}, "partial": {"partial": 1, "full": 1, "no answer": 1},
            "full": {"no answer": 1}, "error": {"error": 1},
        },
        "kinds": {"with a history": {"cases": 6, "exact": 2}},
        "cost": {"calls": 4, "input_tokens": 35, "output_tokens": 25, "cached": 0,
                 "usd": Decimal("0.05")},
        "seconds": {"p50": 2.0, "p95": pytest.approx(2.8)},
    }  # fmt: skip
    assert [(case["key"], case["difference_usd"], case["reason"]) for case in worst] == [
        ("d", Decimal("40.00"), "not asked"), ("c", Decimal("20.00"), "why c"),
        (HOSTILE_ORDER, Decimal("10.00"), "no JSON"),
    ]  # fmt: skip
    assert worst[1]["expected"] == {"decision": "partial", "usd": Decimal(20), "priority": None}
    assert [case["given"] and case["given"]["decision"] for case in worst] == [None, "full", None]
    nothing = evaluation.evaluation_report("complaint", [], [])
    assert nothing["exact"] == nothing["same_decision"] == {"cases": 0, "share": None}
    assert nothing["mean_error_usd"] is nothing["seconds"]["p95"] is None


def run(*words: str, key: str = "") -> Any:
    environment = {MODEL_KEY: key, "COLUMNS": "120"}
    return CliRunner().invoke(app, ["agent", "evaluate", *words], env=environment)


def document(*words: str, key: str = "") -> Any:
    answer = run(*words, "--json", key=key)
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


@pytest.mark.parametrize("agent", ["refund", "complaint"])
def test_the_rules_are_exactly_right_and_people_see_it(agent: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    words = [agent, "--dataset", str(SAMPLE), "--orders", "100", "--root", str(root)]
    report = document(*words)
    assert (report["agent"], report["answered_by"]) == (agent, "rules")
    assert report["exact"] == {"cases": report["cases"], "share": 1.0} == {"cases": 100, "share": 1}
    assert (report["dataset"], report["worst"], report["unused_labels"]) == (str(SAMPLE), [], 0)
    printed = run(*words).stdout
    for text in (f"{agent}, answered by rules", "100.00 % (100 of 100)", "no calls", "P95", "│"):
        assert text in printed
    assert "worst cases" not in printed
    assert not root.exists()


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_model_is_asked_with_the_key_of_the_environment(api: str) -> None:
    with ModelServer(then=said(NOTHING)).running() as server:
        words = ["refund", "--dataset", str(SAMPLE), "--orders", "20", "--model", "m"]
        words += ["--model-api", api, "--model-url", server.url, "--usd-per-million-input", "2.5"]
        report = document(*words, key=KEY)
        printed = run(*words, "--worst", "2", key=KEY).stdout
    due = sum(case.expected.decision == "partial" for case in golden_refunds(SAMPLE, orders=20))
    assert (report["answered_by"], report["answered"]) == ("m", 20)
    assert report["confusion"] == {"none": {"none": 20 - due}, "partial": {"none": due}}
    assert report["cost"] == {
        "calls": 20, "input_tokens": 2400, "output_tokens": 600, "usd": 0.006, "cached": 0,
    }  # fmt: skip
    path = "/v1/chat/completions" if api == "chat" else "/v1/responses"
    assert {request.path for request in server.requests} == {path}
    assert "20 calls, 2,400 tokens in, 600 out, 0.0060 USD" in printed
    assert printed.count(r"[red]No\x07[/red]") == 2
    assert KEY not in printed


def test_a_label_is_used_though_its_order_is_not_in_the_sample(tmp_path: Path) -> None:
    drawn = {case.key for case in golden_refunds(SAMPLE, orders=10)}
    late = next(c for c in golden_refunds(SAMPLE) if c.expected.usd and c.key not in drawn)
    rows = [{"order_id": key, "refund_usd": 0} for key in (late.key, "x")]
    labels = str(written(tmp_path / "labels", *rows))
    words = ["refund", "--dataset", str(SAMPLE), "--orders", "10", "--labels", labels]
    report = document(*words)
    assert (report["cases"], report["labelled"], report["unused_labels"]) == (11, 1, 1)
    assert [case["order_id"] for case in report["worst"]] == [late.key]
    assert "1 cases are judged by people's; 1 labels name nothing here" in run(*words).stdout


def test_what_cannot_be_used_is_an_error_before_anything_is_made(tmp_path: Path) -> None:
    root, model = str(tmp_path / "root"), ("--dataset", str(SAMPLE), "--model", "m", "--model-url")
    labels = str(written(tmp_path / "labels", {"order_id": "a"}))
    for words, kind, text in (
        (("--labels", labels, "--root", root), DatasetError, "line 1, refund_usd"),
        (("--dataset", root, "--root", root), DatasetError, root),
        ((*model, "ftp://host"), SettingsError, "base_url"),
        ((*model, "http://127.0.0.1:9/v1", "--orders", "3"), ModelUnavailableError, MODEL_KEY),
    ):
        refused = run("refund", *words).exception
        assert isinstance(refused, kind)
        assert text in f"{refused.message} {refused.hint}"
    assert not Path(root).exists()


@pytest.mark.parametrize(
    "words",
    ["refunds", "refund --model m", "refund --model-url http://h/v1", "refund --model-api grpc",
     "refund --orders 0", "refund --worst -1",
     "refund --model m --model-url http://h/v1 --usd-per-million-input x"],
)  # fmt: skip
def test_bad_usage_is_code_2(words: str) -> None:
    assert run(*words.split()).exit_code == 2


def test_a_dataset_is_read_but_not_made_while_another_process_owns_root(tmp_path: Path) -> None:
    root = LocalRoot(tmp_path, load_settings(environment={}))
    with owned(root, Owner.this_process("a demo")):
        refused = run("refund", "--root", str(tmp_path))
        assert isinstance(refused.exception, RootLockedError)
        assert not root.dataset.exists()
        root.dataset.mkdir()
        root.dataset_file.write_bytes(SAMPLE.read_bytes())
        report = document("refund", "--root", str(tmp_path), "--orders", "5")
    assert (report["cases"], report["dataset"]) == (5, str(root.dataset_file))


@pytest.mark.full
def test_a_missing_dataset_is_made_and_the_rules_are_right_about_all_of_it(tmp_path: Path) -> None:
    report = document("refund", "--root", str(tmp_path), "--orders", "100000")
    assert report["cases"] == report["exact"]["cases"] > 70_000
