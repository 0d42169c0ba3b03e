"""The API does what its own description says, whatever is asked; and gives nothing twice."""

import os
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from itertools import count, pairwise
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caspers_lib.console.decisions.values import (
    COMPLAINT_CASES,
    GIVEN,
    REFUND_CASES,
    Action,
    CaseKind,
)

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
REPOSITORY, RULES = Path(__file__).parents[2], Path(__file__).with_name("api_schema.toml")
KINDS = {"o": REFUND_CASES, "c": COMPLAINT_CASES}
TOTAL = Decimal("40.00")
NO_TOTAL = "7"
"""The number of the order whose total is not known."""


def fill(business: Any, client: httpx.Client) -> None:
    """Eight orders with a refund and a complaint each; some are decided, one has no total."""
    for number in range(8):
        business.refund(f"o-{number}", minute=number)
        business.complaint(f"c-{number}", order=f"o-{number}", minute=number)
        if str(number) != NO_TOTAL:
            business.worth(f"o-{number}", str(TOTAL))
    for case_id, usd in (("o-0", "7.50"), ("c-0", "5.25"), ("o-1", None), ("c-1", None)):
        assert outcomes(client, [decision(case_id, usd=usd)]) == [None]


def decision(case_id: str, *, usd: str | None, version: int = 0) -> dict[str, Any]:
    action: Action = "reject" if usd is None else "approve"
    return {"case_id": case_id, "version": version, "action": action, "amount_usd": usd,
            "key": f"first of {case_id}"}  # fmt: skip


def outcomes(client: httpx.Client, wanted: list[dict[str, Any]]) -> list[str | None]:
    """Why each was refused; None for what was made."""
    kind = KINDS[wanted[0]["case_id"][0]]
    answer = client.post(f"/api/{kind.name}/decisions", json={"decisions": wanted})
    return [(each["refused"] or {}).get("code") for each in answer.json()["outcomes"]]


def check_trail(business: Any, kind: CaseKind) -> set[str]:
    """No amount above the order's total, and none given again; the statuses that were reached."""
    query = f"SELECT case_id, status, amount_usd FROM {kind.trail} ORDER BY case_id, version"
    with business.connect(kind.spec) as connection:
        rows = connection.execute(query).fetchall()
    for case_id, status, usd in rows:
        assert usd <= TOTAL
        assert status not in GIVEN or not case_id.endswith(NO_TOTAL)
    for (case_id, before, _), (next_id, after, _) in pairwise(rows):
        assert case_id != next_id or not (before in GIVEN and after in GIVEN)
    return {status for _, status, _ in rows}


@pytest.mark.usefixtures("story_tables")
def test_every_answer_is_as_the_document_says(
    business: Any, console: Any, client: httpx.Client, tmp_path: Path
) -> None:
    fill(business, client)
    # In a process of its own: where schemathesis runs, Hypothesis shows no counterexample any more.
    ran = subprocess.run(
        [SCHEMATHESIS, "--config-file", RULES, "run", f"{console.url}/api/openapi.json",
         "--no-color"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "NO_PROXY": "127.0.0.1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr
    assert "No issues found" in ran.stdout
    for kind in KINDS.values():
        assert check_trail(business, kind) & set(GIVEN)


MEANT = [("approve", "7.50", ""), ("approve", "5.25", ""), ("change", "40", "late"),
         ("change", "40.01", "late"), ("reject", None, ""),
         ("undo", None, ""), *[("reverse", None, "late")] * 4]  # fmt: skip
ANY = st.tuples(
    st.sampled_from(get_args(Action)),
    st.sampled_from(["0.01", "7.50", "9999999999.99", 12.5, None]),
    st.sampled_from(["", "late", "= 1 \u202e'; --"]),
)
# The number of the order, how old the page is, and what is asked.
ASKED = st.tuples(
    st.sampled_from([0, 1, 2, int(NO_TOTAL), 9]),
    st.sampled_from([0, 0, 0, 1]),
    st.one_of(st.sampled_from(MEANT), st.sampled_from(MEANT), ANY),
)


def test_no_refund_is_given_twice_or_above_the_total_whatever_is_asked(
    business: Any, client: httpx.Client
) -> None:
    fill(business, client)
    key = count()
    versions: Counter[str] = Counter({"o-0": 1, "c-0": 1, "o-1": 1, "c-1": 1})

    # Fewer requests than one person may send in a minute.
    @settings(max_examples=200, deadline=None, derandomize=True, database=None,
              suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
    @given(kind=st.sampled_from(sorted(KINDS)), asked=st.lists(ASKED, min_size=1, max_size=30))
    def ask(kind: str, asked: list[tuple[int, int, tuple[str, object, str]]]) -> None:
        wanted = []
        for number, age, (action, usd, reason) in asked:
            case_id = f"{kind}-{number}"
            wanted.append({"case_id": case_id, "version": max(0, versions[case_id] - age),
                           "action": action, "amount_usd": usd, "reason": reason,
                           "key": f"{next(key)}"})  # fmt: skip
        for each, refused in zip(wanted, outcomes(client, wanted), strict=True):
            versions[each["case_id"]] += refused is None
        check_trail(business, KINDS[kind])

    ask()
    for kind in KINDS:
        assert sum(versions[f"{kind}-{number}"] for number in range(3)) > 10
