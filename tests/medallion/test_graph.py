"""The picture of the pipeline: complete, current and safe to open."""

from dataclasses import replace
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.medallion.graph import TableState, pipeline_graph
from caspers_lib.medallion.registration import table_names

STATE = TableState(1234, datetime(2026, 11, 24, 18, 30, tzinfo=UTC))
HOSTILE = '"]; n0 --> x<script>alert(1)</script>#quot;'


@pytest.mark.parametrize("form", ["mermaid", "svg"])
def test_every_table_is_there_with_its_rows_and_last_update(form: str) -> None:
    states = dict.fromkeys(table_names(), STATE)
    picture = pipeline_graph(states, events=TableState(5, None)).render(form)  # type: ignore[arg-type]
    for name in table_names():
        assert name in picture
    assert picture.count("1,234 rows, 2026-11-24 18:30 UTC") == len(table_names())
    assert "5 rows" in picture


def test_every_table_but_a_source_has_something_that_flows_into_it() -> None:
    graph = pipeline_graph({}, direct_events="direct")
    fed = {end for _, end in graph.edges}
    assert fed == set(table_names())
    assert ("direct", "all_events") in graph.edges
    assert ("silver_order_lifecycle", "gold_late_share_day") in graph.edges


def test_a_table_that_is_not_there_says_so() -> None:
    assert "not there yet" in pipeline_graph({}).render("mermaid")


def test_a_hostile_name_stays_a_name() -> None:
    lines = replace(GHOST_KITCHEN.line_items, table=HOSTILE)
    graph = pipeline_graph({}, domain=replace(GHOST_KITCHEN, line_items=lines))
    mermaid = graph.render("mermaid")
    assert "<script" not in mermaid
    (line,) = [line for line in mermaid.splitlines() if "alert" in line]
    assert line.count('"') == 2
    drawn = ElementTree.fromstring(graph.render("svg"))  # noqa: S314 - our own text
    texts = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert HOSTILE in texts


def test_the_picture_shows_no_box_over_another() -> None:
    drawn = ElementTree.fromstring(pipeline_graph({}).render("svg"))  # noqa: S314 - our own text
    boxes = [
        tuple(int(element.get(side) or 0) for side in ("x", "y"))
        for element in drawn.iter()
        if element.get("rx")
    ]
    assert len(boxes) == len(set(boxes)) == len(table_names()) + 1
