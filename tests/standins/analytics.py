"""A dashboard file and a Genie space, with the fields that public examples of both show.

An unknown field is refused, since the service would drop it or refuse the whole.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tests.bundle.configuration import Target

COLUMNS = 6
VERSIONS = {
    "bar": 3,
    "counter": 2,
    "filter-date-range-picker": 2,
    "filter-multi-select": 2,
    "line": 3,
    "table": 2,
}
"""Version of a widget's specification by its kind."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Places(Strict):
    type: Literal["max"]
    places: int


class NumberFormat(Strict):
    type: Literal["number-currency", "number-percent"]
    currencyCode: str | None = None
    abbreviation: Literal["compact"] | None = None
    decimalPlaces: Places


class Sort(Strict):
    by: Literal["x", "x-reversed", "y", "y-reversed"]


class Scale(Strict):
    type: Literal["temporal", "categorical", "quantitative"]
    sort: Sort | None = None


class Channel(Strict):
    fieldName: str
    displayName: str
    queryName: str | None = None
    scale: Scale | None = None
    format: NumberFormat | None = None


class Channels(Strict):
    fields: list[Channel]
    scale: Scale


class Encodings(Strict):
    value: Channel | None = None
    x: Channel | None = None
    y: Channel | Channels | None = None
    color: Channel | None = None
    columns: list[Channel] = []
    fields: list[Channel] = []

    @property
    def channels(self) -> list[Channel]:
        many = self.y.fields if isinstance(self.y, Channels) else [self.y]
        found = [self.value, self.x, *many, self.color, *self.columns, *self.fields]
        return [channel for channel in found if channel]


class Frame(Strict):
    showTitle: bool
    title: str


class Spec(Strict):
    version: int
    widgetType: str
    encodings: Encodings
    frame: Frame


class QueryField(Strict):
    name: str
    expression: str

    @property
    def is_aggregate(self) -> bool:
        return re.fullmatch(r"`\w+`", self.expression) is None


class Query(Strict):
    datasetName: str
    fields: list[QueryField] = Field(min_length=1)
    disaggregated: bool


class NamedQuery(Strict):
    name: str
    query: Query


class Widget(Strict):
    name: str
    queries: list[NamedQuery] = []
    spec: Spec | None = None
    textbox_spec: str | None = None


class Position(Strict):
    x: int = Field(ge=0)
    y: int = Field(ge=0)
    width: int = Field(ge=1)
    height: int = Field(ge=1)

    @property
    def cells(self) -> Iterator[tuple[int, int]]:
        for x in range(self.x, self.x + self.width):
            yield from ((x, y) for y in range(self.y, self.y + self.height))


class Placed(Strict):
    widget: Widget
    position: Position


class Page(Strict):
    name: str
    displayName: str
    pageType: Literal["PAGE_TYPE_CANVAS"]
    layout: list[Placed]


class Dataset(Strict):
    name: str
    displayName: str
    queryLines: list[str]

    @property
    def sql(self) -> str:
        return "".join(self.queryLines)


class Dashboard(Strict):
    datasets: list[Dataset]
    pages: list[Page]


def _hex(text: str) -> str:
    assert re.fullmatch(r"[0-9a-f]{32}", text), "an id has 32 hexadecimal digits"
    return text


Id = Annotated[str, AfterValidator(_hex)]


class Question(Strict):
    id: Id
    question: list[str] = Field(min_length=1, max_length=1)


class Example(Question):
    sql: list[str]


class Instruction(Strict):
    id: Id
    content: list[str]


class Source(Strict):
    identifier: str = Field(pattern=r"^[^.]+\.[^.]+\.[^.]+$")


class Samples(Strict):
    sample_questions: list[Question]


class Sources(Strict):
    tables: list[Source]


class Instructions(Strict):
    text_instructions: list[Instruction] = Field(max_length=1)
    example_question_sqls: list[Example]


class GenieSpace(Strict):
    version: Literal[2]
    config: Samples
    data_sources: Sources
    instructions: Instructions


def read_dashboard(target: Target) -> tuple[Dashboard, dict[str, Any]]:
    """The dashboard's file, and its resource in the target."""
    resource = target.settled("dashboards", "kitchens")
    text = Path(resource["file_path"]).read_text(encoding="utf-8")
    return Dashboard.model_validate(json.loads(text)), resource


def read_genie_space(target: Target) -> GenieSpace:
    """The Genie space as the target makes it."""
    resource = target.settled("genie_spaces", "kitchens")
    return GenieSpace.model_validate(resource["serialized_space"])


def widget_queries(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    """What each widget asks of its dataset, by the widget's name."""
    datasets = {dataset.name: dataset.sql for dataset in dashboard.datasets}
    for page in dashboard.pages:
        for placed in page.layout:
            for named in placed.widget.queries:
                query = named.query
                columns = ", ".join(f"{f.expression} AS `{f.name}`" for f in query.fields)
                sql = f"SELECT {columns} FROM ({datasets[query.datasetName]})"
                plain = [f.expression for f in query.fields if not f.is_aggregate]
                if not query.disaggregated and plain:
                    sql += f" GROUP BY {', '.join(plain)}"
                yield placed.widget.name, sql
