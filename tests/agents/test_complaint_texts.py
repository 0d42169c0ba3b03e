import re
import subprocess
import sys
from decimal import Decimal
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.agents.complaint_draws import complaint_category
from caspers_lib.agents.complaint_texts import (
    UNKNOWN_ITEM,
    UNKNOWN_STREET,
    UNKNOWN_WAIT,
    complaint_shapes,
    complaint_text,
    complaint_tone,
    counted_minutes,
)
from caspers_lib.agents.complaint_words import COMPLAINT_CORES, COMPLAINT_TONES
from caspers_lib.agents.contracts import CATEGORY_WEIGHTS
from caspers_lib.agents.triage_policy import TriagePolicy, plain_words, whole_words
from caspers_lib.replay.generator.menu import brands

IDS = [f"order-{n}" for n in range(20_000)]
CORES = [
    (category, tone, core)
    for category, of_tone in COMPLAINT_CORES.items()
    for tone, cores in of_tone.items()
    for core in cores
]
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def test_there_are_many_shapes_and_no_two_are_alike() -> None:
    shapes = list(complaint_shapes())
    assert len(set(shapes)) == len(shapes) >= 200
    assert len({core for _, _, core in CORES}) == len(CORES)


def test_every_category_has_every_tone_and_as_many_sentences_for_each() -> None:
    assert list(COMPLAINT_CORES) == list(CATEGORY_WEIGHTS)
    for of_tone in COMPLAINT_CORES.values():
        assert list(of_tone) == list(COMPLAINT_TONES)
    assert len({len(cores) for of in COMPLAINT_CORES.values() for cores in of.values()}) == 1
    assert sum(tone.share for tone in COMPLAINT_TONES.values()) == 1


def test_only_what_is_said_has_places_and_only_known_ones() -> None:
    known = {"item", "Item", "items", "wait", "street"}
    for _, _, core in CORES:
        parts = list(Formatter().parse(core))
        assert {place for _, place, _, _ in parts if place is not None} <= known
        assert all(not spec and not conversion for _, _, spec, conversion in parts)
    for tone in COMPLAINT_TONES.values():
        for around in (*tone.openings, *tone.endings):
            assert not set("{}") & set(around)


def test_only_a_delay_tells_the_time() -> None:
    for category, _, core in CORES:
        if "{wait}" in core:
            assert category == "delivery_delay"
        assert not re.search(r"\d", core)


def test_words_that_can_not_wait_are_those_of_the_urgent_tone() -> None:
    urgent = re.compile(whole_words(TriagePolicy().urgent_words))
    for _, tone, core in CORES:
        around = COMPLAINT_TONES[tone]
        for text in (f"{o} {core} {e}" for o in around.openings for e in around.endings):
            assert bool(urgent.search(plain_words(text))) is (tone == "urgent"), text


def test_spoiled_dishes_are_spoiled_a_little_or_badly_or_just_so() -> None:
    policy = TriagePolicy()
    mild, severe = (re.compile(whole_words(w)) for w in (policy.mild_words, policy.severe_words))
    said = [plain_words(core) for category, _, core in CORES if category == "food_quality"]
    degrees = [(bool(mild.search(text)), bool(severe.search(text))) for text in said]
    assert min(degrees.count(d) for d in ((True, False), (False, True), (False, False))) >= 3
    assert (True, True) not in degrees


def test_some_complaints_of_every_category_name_no_dish() -> None:
    for category in COMPLAINT_CORES:
        vague = [core for kind, _, core in CORES if kind == category and "{" not in core]
        assert vague


def test_no_sentence_names_a_dish_that_may_not_be_on_the_order() -> None:
    dishes = {plain_words(dish.name) for brand in brands() for dish in brand.dishes}
    for _, _, core in CORES:
        said = f" {plain_words(core)} "
        assert not [dish for dish in dishes if f" {dish} " in said]


def test_a_text_is_true_to_its_order() -> None:
    dishes = ["Rice Bowl", "Ginger Fizz", "Rice Bowl"]
    for order in IDS[:3_000]:
        text = complaint_text(
            order, 3, dishes=dishes, total_minutes=Decimal("47.99"), street="5 Elm Row"
        )
        assert re.findall(r"\d+", text) in ([], ["47"], ["5"], ["5", "47"], ["47", "5"])
        assert UNKNOWN_WAIT not in text
        assert UNKNOWN_STREET not in text
        assert "Rice Bowl and Rice Bowl" not in text
        assert not set("{}") & set(text)


def test_what_is_unknown_is_not_invented() -> None:
    texts = [complaint_text(order, 3) for order in IDS[:3_000]]
    assert not [text for text in texts if re.search(r"\d|None|unknown|[{}]", text)]
    for stand_in in (UNKNOWN_ITEM, UNKNOWN_WAIT, UNKNOWN_STREET):
        assert any(stand_in in text for text in texts)


@pytest.mark.parametrize(
    ("took", "counted"),
    [(None, None), ("0", None), ("1.99", None), ("2.00", 2), ("47.99", 47), ("1440", 1440)],
)
def test_minutes_are_counted_in_whole_ones(took: str | None, counted: int | None) -> None:
    assert counted_minutes(took and Decimal(took)) == counted  # type: ignore[arg-type]


@given(st.sampled_from(IDS), names, names)
def test_names_are_filled_in_and_never_read(order: str, dish: str, street: str) -> None:
    hostile = f"{{wait}}{dish}{{0}}"
    plain = complaint_text(order, 1, dishes=["DISH"], total_minutes=Decimal(9), street="STREET")
    text = complaint_text(
        order, 1, dishes=[hostile], total_minutes=Decimal(9), street=f"{{item}}{street}"
    )
    assert text == plain.replace("DISH", hostile).replace("STREET", f"{{item}}{street}")


def test_tones_are_drawn_by_their_shares_whatever_the_category() -> None:
    late = [order for order in IDS if complaint_category(order, 1) == "delivery_delay"]
    for orders in (IDS, late):
        drawn = [complaint_tone(order, 1) for order in orders]
        for name, tone in COMPLAINT_TONES.items():
            share = float(tone.share)
            spread = 4 * (len(drawn) * share * (1 - share)) ** 0.5
            assert drawn.count(name) == pytest.approx(len(drawn) * share, abs=spread)


def test_J6_the_same_order_complains_in_the_same_words_on_every_run() -> None:
    write = (
        "from caspers_lib.agents.complaint_texts import complaint_text as t;"
        "print('|'.join(t(f'o-{n}', 5, dishes=['A', 'B'], street='C') for n in range(200)))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", write],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1
    assert len(set(runs.pop().split("|"))) > 100


def test_texts_and_prompts_load_no_spark() -> None:
    check = (
        "import caspers_lib.agents.model.complaint_prompt, sys; sys.exit('pyspark' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
