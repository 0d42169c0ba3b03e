"""The dashboard and the Genie space of the bundle; `test_notebooks.py` runs their queries."""

from itertools import pairwise

import pytest

from caspers_lib.runtime.task_graph import TARGETS
from tests.bundle.shipped import shipped
from tests.standins.analytics import (
    COLUMNS,
    VERSIONS,
    Dashboard,
    read_dashboard,
    read_genie_space,
)

every_target = pytest.mark.parametrize("name", list(TARGETS))


@pytest.fixture(scope="module")
def dashboard() -> Dashboard:
    return read_dashboard(shipped())[0]


@every_target
def test_each_target_shows_its_own_catalog(name: str) -> None:
    target = shipped(name)
    catalog = target.variables["catalog"]
    dashboard, resource = read_dashboard(target)
    assert (resource["dataset_catalog"], resource["dataset_schema"]) == (catalog, "simulator")
    assert catalog not in "".join(dataset.sql for dataset in dashboard.datasets)
    space = read_genie_space(target)
    assert {t.identifier.split(".")[0] for t in space.data_sources.tables} == {catalog}
    for example in space.instructions.example_question_sqls:
        assert "${" not in "".join(example.sql)


def test_each_widget_shows_what_it_asks_for(dashboard: Dashboard) -> None:
    datasets = [dataset.name for dataset in dashboard.datasets]
    assert len(set(datasets)) == len(datasets)
    asked = set()
    for page in dashboard.pages:
        names = [placed.widget.name for placed in page.layout]
        assert len(set(names)) == len(names)
        for widget in (placed.widget for placed in page.layout):
            assert (widget.spec is None) is (widget.textbox_spec is not None), widget.name
            asked |= {named.query.datasetName for named in widget.queries}
            if widget.spec is None:
                assert not widget.queries
                continue
            assert widget.spec.version == VERSIONS[widget.spec.widgetType]
            fields = {q.name: {f.name for f in q.query.fields} for q in widget.queries}
            shown: dict[str, set[str]] = {name: set() for name in fields}
            for channel in widget.spec.encodings.channels:
                shown[channel.queryName or "main_query"].add(channel.fieldName)
            assert shown == fields, widget.name
    assert asked == set(datasets)


def test_the_widgets_fit_the_page_and_do_not_overlap(dashboard: Dashboard) -> None:
    for page in dashboard.pages:
        cells = [cell for placed in page.layout for cell in placed.position.cells]
        assert len(set(cells)) == len(cells)
        assert max(x for x, _ in cells) < COLUMNS


def test_the_dashboard_and_the_space_know_every_gold_table(dashboard: Dashboard) -> None:
    from caspers_lib.medallion.registration import table_names

    gold = {name for name in table_names() if name.startswith("gold_")}
    asked = "".join(dataset.sql for dataset in dashboard.datasets)
    assert {name for name in gold if f"lakeflow.{name} " in asked} == gold
    space = read_genie_space(shipped())
    assert gold <= {table.identifier.split(".")[2] for table in space.data_sources.tables}


def test_the_spaces_lists_are_in_the_order_that_the_service_wants() -> None:
    space = read_genie_space(shipped())
    ids = [question.id for question in space.config.sample_questions]
    examples = [example.id for example in space.instructions.example_question_sqls]
    identifiers = [table.identifier for table in space.data_sources.tables]
    for names in (ids, examples, identifiers):
        assert all(one < other for one, other in pairwise(names))
    lines = [line for each in space.instructions.text_instructions for line in each.content]
    assert all(line.endswith("\n") for line in lines)
    for example in space.instructions.example_question_sqls:
        assert all(line.endswith("\n") for line in example.sql[:-1])
