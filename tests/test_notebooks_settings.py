"""A notebook's fields as settings, and the catalog that its session has."""

import os
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlglot.expressions import Table

from caspers_lib.agents.tables import AGENT_TABLES, AgentTables
from caspers_lib.errors import SettingsError, WorkspaceError
from caspers_lib.runtime.settings import Settings, parameters_of
from caspers_lib.workspace import settings_from_widgets
from caspers_lib.workspace.lakehouse import SparkLakehouse, StreamName
from tests.standins.databricks_notebook import NotebookUtilities, Widgets

ANSWERS = ("recommendations", "complaints", "responses")


def test_fields_that_nobody_filled_have_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("CASPERS_")]:
        monkeypatch.delenv(name)
    widgets = Widgets({})
    assert settings_from_widgets(NotebookUtilities(widgets)) == Settings()
    assert widgets.fields.keys() == {name.upper() for name in parameters_of("workspace")}
    assert widgets.fields["CATALOG"] == "caspersdev"
    monkeypatch.setenv("CASPERS_START_DAY", "7")
    assert settings_from_widgets(NotebookUtilities(Widgets({}))).start_day == 7


@given(
    catalog=st.from_regex(r"[A-Za-z_][^\s/.\x00-\x1f\x7f]{0,9}", fullmatch=True),
    day=st.integers(0, 10**6),
)
def test_what_a_job_hands_over_comes_first(catalog: str, day: int) -> None:
    handed = {"CATALOG": catalog, "START_DAY": f" {day}\n", "WAREHOUSE_ID": "", "TARGET": "all"}
    settings = settings_from_widgets(NotebookUtilities(Widgets(handed)))
    wanted = {"catalog": catalog, "start_day": day, "warehouse_id": "", "target": "all"}
    assert settings == Settings.model_validate(wanted)


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_emptied_field_is_refused_where_something_must_stand(text: str) -> None:
    for name in ("CATALOG", "START_DAY", "TARGET"):
        with pytest.raises(SettingsError, match=f"^{name} is empty"):
            settings_from_widgets(NotebookUtilities(Widgets({name: text})))


@dataclass(frozen=True)
class SparkWithCatalogs:
    """A session that can list its catalogs."""

    names: tuple[str, ...]

    @property
    def catalog(self) -> "SparkWithCatalogs":
        return self

    def listCatalogs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name) for name in self.names]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("samples", "my-shop"), "my-shop"),
        (("samples", "My-Shop", "spark_catalog"), "My-Shop"),
        (("spark_catalog",), None),
        ((), None),
    ],
)
def test_the_catalog_is_the_sessions_in_its_own_spelling(
    names: tuple[str, ...], found: str | None
) -> None:
    settings = Settings(catalog="my-SHOP")
    lakehouse = SparkLakehouse.here(cast("Any", SparkWithCatalogs(names)), settings)
    assert lakehouse.catalog == found


def test_a_catalog_that_the_session_lacks_is_refused() -> None:
    session = cast("Any", SparkWithCatalogs(("samples", "spark_catalog")))
    with pytest.raises(WorkspaceError, match=r"^The catalog mine doesn't exist, or you may not"):
        SparkLakehouse.here(session, Settings(catalog="mine"))


@pytest.mark.parametrize("catalog", ["my-shop", "a`b", "x;--", "ünï"])
@pytest.mark.parametrize("stream", ["refunds", "complaints", "responses"])
def test_a_stream_gets_names_that_queries_can_hold(
    monkeypatch: pytest.MonkeyPatch, catalog: str, stream: StreamName
) -> None:
    got: list[AgentTables] = []
    for each in ("refund", "complaint", "response"):
        run = f"caspers_lib.agents.streams.run_{each}_stream"
        monkeypatch.setattr(run, lambda *_words, tables, **_more: got.append(tables))
    lakehouse = SparkLakehouse(spark=cast("Any", None), settings=Settings(), catalog=catalog)
    nothing = SimpleNamespace(serving_endpoints=SimpleNamespace(get=lambda _name: None))
    lakehouse.run_stream(stream, cast("Any", nothing))
    [tables] = got
    names = {AGENT_TABLES.events, AGENT_TABLES.lines}
    names |= {getattr(AGENT_TABLES, answers).name for answers in ANSWERS}
    written = (tables.recommendations, tables.complaints, tables.responses)
    for name in (tables.events, tables.lines, *(table.name for table in written)):
        read = sqlglot.parse_one(f"SELECT * FROM {name}", dialect="databricks").find(Table)
        assert read
        assert read.catalog == catalog
        assert f"{read.db}.{read.name}" in names
