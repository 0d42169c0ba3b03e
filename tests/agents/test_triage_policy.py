import re
from decimal import Decimal

import pytest

from caspers_lib.agents.triage_policy import OUTCOMES, TriagePolicy, plain_words, whole_words


def test_each_outcome_either_credits_or_escalates() -> None:
    for outcome in OUTCOMES.values():
        assert (outcome.confidence is None) != (outcome.priority is None)


@pytest.mark.parametrize(
    ("text", "urgent"),
    [
        ("You will hear from my LAWYER.", True),
        ("my card was charged without my order: fraud!", True),
        ("the driver threatened my son", True),
        ("the health-department should know", True),
        ("a chaotic lawn party", False),
        ("my daughter is allergic to nuts", True),
        ("i felt sick afterwards", True),
        ("there was a piece of glass in the soup", True),
        ("the glass noodles were cold", False),
        ("still waiting, what a chilly evening", False),
        ("it was cold", False),
    ],
)
def test_health_law_fraud_and_abuse_are_urgent(text: str, urgent: bool) -> None:
    found = re.search(whole_words(TriagePolicy().urgent_words), plain_words(text))
    assert bool(found) is urgent


@pytest.mark.parametrize(
    "figures",
    [{"late_share": Decimal("0.5")}, {"quality_share": Decimal("1.1")}, {"min_orders": 0}],
)
def test_a_policy_with_a_figure_outside_its_range_is_refused(figures: dict[str, Decimal]) -> None:
    with pytest.raises(ValueError, match="must"):
        TriagePolicy(**figures)  # type: ignore[arg-type]
