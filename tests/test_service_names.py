"""Any text becomes a service's name: valid, the same every time, and its own."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.agents.model.endpoint_names import checked_endpoint_name
from caspers_lib.errors import SettingsError
from caspers_lib.lakebase.managed_request import checked_catalog, checked_project
from caspers_lib.service_names import (
    app_name,
    endpoint_name,
    lakebase_catalog,
    project_id,
    uc_name,
)

VALID: dict[Callable[[str], str], str] = {
    project_id: r"[a-z][a-z0-9-]{0,62}",
    app_name: r"[a-z0-9][a-z0-9-]{0,28}[a-z0-9]",
    endpoint_name: r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?",
    lakebase_catalog: r"[a-z0-9_-]{1,255}",
    uc_name: r"[^/.\s\x00-\x1f\x7f\ud800-\udfff]{1,255}",
}
NAMERS = list(VALID)
CASE_BLIND = [name for name in NAMERS if name is not endpoint_name]
ALIKE = [
    "a", "A", "ab", "Ab", "AB", "a b", "a-b", "a_b", "a.b", "a/b", "-a-b-", "_a_b_", "a'b",
    'a"b', "a`b", "a\\b", "a\nb", "a\0b", "a--b", "a?b=c", "1", "1st", "é", "e\u0301", "É", "ß",
    "ss", "SS", "\u017f", "s", "İ", "i", "\u0131", "K", "k", "\u212a", "\u03c3", "ς", "Σ",
    "日本", "🍕", "\ud800", "\ud801", "X" * 63, "x" * 62 + "-",
    *("x" * n for n in (29, 30, 31, 62, 63, 64, 65, 254, 255, 256)),
]  # fmt: skip
near = st.text("aAbB_-. '\"1é", min_size=1, max_size=6)
anything = st.one_of(near, st.text(min_size=1, max_size=70), st.sampled_from(ALIKE)).filter(
    str.strip
)


@pytest.mark.parametrize("namer", NAMERS)
@given(text=anything)
def test_every_text_becomes_a_valid_name_that_stays(namer: Callable[[str], str], text: str) -> None:
    name = namer(text)
    assert re.fullmatch(VALID[namer], name)
    assert namer(text) == name
    assert namer(name) == name


@pytest.mark.parametrize("namer", NAMERS)
@given(texts=st.lists(anything, unique=True, max_size=30))
def test_different_texts_get_different_names(namer: Callable[[str], str], texts: list[str]) -> None:
    assert len({namer(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("namer", CASE_BLIND)
@given(texts=st.lists(anything, unique=True, max_size=30))
def test_no_two_names_differ_by_case_alone(namer: Callable[[str], str], texts: list[str]) -> None:
    assert len({namer(text).lower() for text in texts}) == len(texts)
    assert len({namer(text).upper().lower() for text in texts}) == len(texts)


@pytest.mark.parametrize("namer", NAMERS)
def test_texts_that_look_alike_get_names_of_their_own(namer: Callable[[str], str]) -> None:
    assert len(set(ALIKE)) == len(ALIKE)
    assert len({namer(text) for text in ALIKE}) == len(ALIKE)


@pytest.mark.parametrize("namer", NAMERS)
@given(data=st.data())
def test_a_name_that_is_valid_already_stays(
    namer: Callable[[str], str], data: st.DataObject
) -> None:
    text = data.draw(st.from_regex(VALID[namer], fullmatch=True))
    if namer is not uc_name or text == text.upper().lower():
        assert namer(text) == text


@given(anything)
def test_what_other_modules_check_takes_these_names(text: str) -> None:
    assert checked_endpoint_name(endpoint_name(text))
    assert checked_catalog(lakebase_catalog(text))
    assert checked_project(project_id(text))


@pytest.mark.parametrize(
    ("namer", "text", "name"),
    [
        (project_id, "Casper's_Dev.Refund", "casper-s-dev-refund-fa510c96"),
        (project_id, "caspersdevrefundmanager", "caspersdevrefundmanager"),
        (app_name, "caspersdev_refund_manager", "caspersdev-refund-man-[0-9a-f]{8}"),
        (app_name, "Refund Manager", "refund-manager-[0-9a-f]{8}"),
        (app_name, "a", "a-[0-9a-f]{8}"),
        (app_name, "", "app-[0-9a-f]{8}"),
        (endpoint_name, "Caspers_Refund-1", "Caspers_Refund-1"),
        (endpoint_name, "Casper's refund_agent", "Casper-s-refund_agent-[0-9a-f]{8}"),
        (endpoint_name, "_a", "a-[0-9a-f]{8}"),
        (endpoint_name, "", "endpoint-[0-9a-f]{8}"),
        (lakebase_catalog, "Casper's Refunds", "casper_s_refunds_[0-9a-f]{8}"),
        (lakebase_catalog, "refunds-pg", "refunds-pg"),
        (lakebase_catalog, "日本", "catalog_[0-9a-f]{8}"),
        (uc_name, "o'brien", "o'brien"),
        (uc_name, "über", "über"),
        (uc_name, "My.Table", "my_table_[0-9a-f]{8}"),
        (uc_name, "", "object_[0-9a-f]{8}"),
    ],
)
def test_what_can_be_read_of_a_text_is_kept(
    namer: Callable[[str], str], text: str, name: str
) -> None:
    assert re.fullmatch(name, namer(text))


@pytest.mark.parametrize("namer", [n for n in NAMERS if n is not project_id])
@pytest.mark.parametrize("text", ["", " \n", "\0", "x" * 10_000])
def test_a_blank_or_endless_text_gets_a_name_too(namer: Callable[[str], str], text: str) -> None:
    assert re.fullmatch(VALID[namer], namer(text))


@pytest.mark.parametrize("text", ["", " \n", "x" * 257])
def test_a_project_needs_a_name_that_can_be_shown(text: str) -> None:
    with pytest.raises(SettingsError):
        project_id(text)
