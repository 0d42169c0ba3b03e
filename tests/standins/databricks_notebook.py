"""A notebook's surroundings on Databricks, as far as the examples use them, and a catalog of Spark.

What a notebook asks for beyond this fails. The loopback workspace knows the objects of its own
services alone; `share_catalog` makes Spark's schemas, tables and functions the same objects as the
workspace's, as they are in Unity Catalog.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caspers_lib.spark_sql import quote_name
from tests.workspace_fake import LoopbackWorkspace
from tests.workspace_fake.requests import Document
from tests.workspace_fake.state import Common, Store

CATALOG = "spark_catalog"
"""The one catalog that a local Spark has; as a setting it gives every name three parts."""

_BORN_WITH = {"default", "information_schema"}


class InputWidgetNotDefined(Exception):
    """There is no such field in the notebook."""


class Widgets:
    """Fields of a notebook; what a job hands over is there from the start."""

    def __init__(self, given: Mapping[str, str]) -> None:
        assert all(isinstance(text, str) for pair in given.items() for text in pair)
        self.fields = dict(given)

    def text(self, name: str, defaultValue: str, label: str | None = None) -> None:
        assert isinstance(defaultValue, str)
        assert label is None or isinstance(label, str)
        self.fields.setdefault(name, defaultValue)

    def get(self, name: str) -> str:
        if name not in self.fields:
            raise InputWidgetNotDefined(f"No input widget named {name} is defined")
        return self.fields[name]


@dataclass(frozen=True)
class NotebookUtilities:
    """`dbutils`."""

    widgets: Widgets


@dataclass
class Display:
    """`display`: keeps the rows of each table that was shown."""

    shown: list[list[tuple[Any, ...]]] = field(default_factory=list)

    def __call__(self, frame: Any) -> None:
        self.shown.append([tuple(row) for row in frame.collect()])


def run_notebook(path: Path, spark: Any, parameters: Mapping[str, str]) -> list[tuple[Any, ...]]:
    """Run a notebook cell by cell as a job's task does; the rows of the one table that it shows."""
    first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    assert first == "# Databricks notebook source"
    display = Display()
    utilities = NotebookUtilities(Widgets(parameters))
    names = {"spark": spark, "dbutils": utilities, "display": display}
    for number, cell in enumerate(rest.split("\n# COMMAND ----------\n")):
        exec(compile(cell, f"{path.name}, cell {number}", "exec"), names)  # noqa: S102 - ours
    [rows] = display.shown
    return rows


def share_catalog(workspace: LoopbackWorkspace, spark: Any) -> None:
    """From now on the workspace's catalog `CATALOG` is Spark's own.

    Args:
        workspace: has nothing yet.
        spark: the session.
    """
    stores = workspace.unity.stores
    for kind, store in {"schemas": _Schemas, "tables": _Tables, "functions": _Functions}.items():
        stores[kind] = store(workspace.common, spark)
    workspace.unity.add("catalogs", CATALOG, catalog_type="MANAGED_CATALOG")


class _SparkStore(Store):
    """Objects of a kind: in `CATALOG` those that Spark has, elsewhere those that were added."""

    def __init__(self, common: Common, spark: Any) -> None:
        super().__init__(common)
        self.spark = spark

    def exists(self, _name: str) -> bool:
        raise NotImplementedError

    def names(self) -> Iterator[str]:
        """Full names of all in the catalog."""
        raise NotImplementedError

    def drop(self, name: str) -> None:
        raise NotImplementedError

    def details(self, _name: str) -> Document:
        return {}

    def __contains__(self, name: object) -> bool:
        self._see(str(name))
        return super().__contains__(name)

    def look(self, name: str) -> Document | None:
        self._see(name)
        return super().look(name)

    def looks(self) -> list[tuple[str, Document]]:
        there = set(self.names())
        for name in there | {name for name in self.items if _is_shared(name)}:
            self._mark(name, is_there=name in there)
        return sorted(self.items.items())

    def remove(self, name: str) -> Document:
        document = super().remove(name)
        if _is_shared(name):
            self.drop(name)
        return document

    def snapshot(self) -> Document:
        self.looks()
        return super().snapshot()

    def _see(self, name: str) -> None:
        if _is_shared(name):
            self._mark(name, is_there=self.exists(name))

    def _mark(self, name: str, *, is_there: bool) -> None:
        if not is_there:
            self.items.pop(name, None)
        elif name not in self.items:
            *outer, last = name.split(".")
            within = dict(zip(("catalog_name", "schema_name"), outer, strict=False))
            self.items[name] = {"name": last, "full_name": name, **within, **self.details(name)}


class _Schemas(_SparkStore):
    def add(self, name: str, document: Document) -> None:
        if _is_shared(name):
            self.spark.sql(f"CREATE SCHEMA IF NOT EXISTS {_quoted(name)}")
        super().add(name, document)

    def exists(self, name: str) -> bool:
        return bool(self.spark.catalog.databaseExists(name))

    def names(self) -> Iterator[str]:
        rows = self.spark.sql(f"SHOW SCHEMAS IN {quote_name(CATALOG)}").collect()
        yield from (f"{CATALOG}.{row[0]}" for row in rows if row[0] not in _BORN_WITH)

    def drop(self, name: str) -> None:
        self.spark.sql(f"DROP SCHEMA IF EXISTS {_quoted(name)} CASCADE")


class _Tables(_SparkStore):
    def exists(self, name: str) -> bool:
        return bool(self.spark.catalog.tableExists(name))

    def names(self) -> Iterator[str]:
        for schema in _Schemas(self._common, self.spark).names():
            for row in self.spark.sql(f"SHOW TABLES IN {_quoted(schema)}").collect():
                if not row.isTemporary:
                    yield f"{schema}.{row.tableName}"

    def details(self, name: str) -> Document:
        if self._is_view(name):
            return {"table_type": "VIEW"}
        rows = self.spark.sql(f"SHOW TBLPROPERTIES {_quoted(name)}").collect()
        properties = {row.key: row.value for row in rows}
        return {"table_type": "MANAGED", "data_source_format": "DELTA", "properties": properties}

    def drop(self, name: str) -> None:
        what = "VIEW" if self._is_view(name) else "TABLE"
        self.spark.sql(f"DROP {what} IF EXISTS {_quoted(name)}")

    def _is_view(self, name: str) -> bool:
        schema, _, table = name.rpartition(".")
        views = self.spark.sql(f"SHOW VIEWS IN {_quoted(schema)}").collect()
        return table in {row.viewName for row in views}


class _Functions(_SparkStore):
    def exists(self, name: str) -> bool:
        return bool(self.spark.catalog.functionExists(name))

    def names(self) -> Iterator[str]:
        for schema in _Schemas(self._common, self.spark).names():
            rows = self.spark.sql(f"SHOW USER FUNCTIONS IN {_quoted(schema)}").collect()
            yield from (row[0] for row in rows if _is_shared(row[0]))

    def drop(self, name: str) -> None:
        self.spark.sql(f"DROP FUNCTION IF EXISTS {_quoted(name)}")


def _is_shared(name: str) -> bool:
    catalog, _, inner = name.partition(".")
    return catalog == CATALOG and inner not in _BORN_WITH


def _quoted(name: str) -> str:
    return quote_name(*name.split("."))
