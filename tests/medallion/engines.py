"""Stand-ins for the decorators of pipelines: they know what each engine knows and refuse the rest.

Signatures as documented by Databricks for `pyspark.pipelines` and `dlt` on Lakeflow, and as in
Apache Spark 4.2 for the open-source engine.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_TABLE = [
    "name",
    "comment",
    "spark_conf",
    "table_properties",
    "path",
    "partition_cols",
    "cluster_by_auto",
    "cluster_by",
    "schema",
    "row_filter",
    "private",
]
_STREAMING = [
    "name",
    "comment",
    "spark_conf",
    "table_properties",
    "partition_cols",
    "cluster_by_auto",
    "cluster_by",
    "path",
    "schema",
    "expect_all",
    "expect_all_or_drop",
    "expect_all_or_fail",
    "row_filter",
    "private",
]
_VIEW = ["name", "comment"]
_FLOW = ["target", "name", "once", "spark_conf", "comment"]
_EXPECTATIONS = ("expect_all", "expect_all_or_drop", "expect_all_or_fail")


@dataclass
class Declared:
    """What was declared under a name."""

    kind: str
    options: dict[str, Any]
    rows: Callable[[], Any] | None = None
    expectations: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass
class _Engine:
    declared: dict[str, Declared] = field(default_factory=dict)
    flows: dict[str, Declared] = field(default_factory=dict)

    def _decorator(self, kind: str, allowed: list[str], options: dict[str, Any]) -> Any:
        _refuse_unknown(kind, allowed, options)

        def declare(function: Callable[[], Any]) -> None:
            assert not inspect.signature(function).parameters, "a dataset's function takes nothing"
            into = self.flows if kind == "append_flow" else self.declared
            assert options["name"] not in into, f"{options['name']} is declared twice"
            rules = getattr(function, "expectations", {})
            into[options["name"]] = Declared(kind, options, function, rules)

        return declare

    def _expect(self, kind: str, conditions: dict[str, str]) -> Any:
        assert conditions
        assert all(isinstance(x, str) for pair in conditions.items() for x in pair)

        def mark(function: Callable[[], Any]) -> Callable[[], Any]:
            found = {**getattr(function, "expectations", {}), kind: conditions}
            function.expectations = found  # type: ignore[attr-defined]
            return function

        return mark

    def create_streaming_table(self, name: str, **options: Any) -> None:
        _refuse_unknown("create_streaming_table", _STREAMING, options)
        self.declared[name] = Declared("streaming_table", {"name": name, **options})

    def append_flow(self, **options: Any) -> Any:
        assert options["target"] in self.declared
        return self._decorator("append_flow", _FLOW, options)

    def table(self, **options: Any) -> Any:
        return self._decorator("table", _TABLE, options)

    def expect_all(self, conditions: dict[str, str]) -> Any:
        return self._expect("expect_all", conditions)

    def expect_all_or_drop(self, conditions: dict[str, str]) -> Any:
        return self._expect("expect_all_or_drop", conditions)

    def expect_all_or_fail(self, conditions: dict[str, str]) -> Any:
        return self._expect("expect_all_or_fail", conditions)


class LakeflowPipelines(_Engine):
    """`pyspark.pipelines` on Lakeflow."""

    def materialized_view(self, **options: Any) -> Any:
        return self._decorator("materialized_view", _TABLE, options)

    def temporary_view(self, **options: Any) -> Any:
        return self._decorator("view", _VIEW, options)


class Dlt(_Engine):
    """The older module `dlt`: one `table` for both kinds, and `view`."""

    def view(self, **options: Any) -> Any:
        return self._decorator("view", _VIEW, options)


def _refuse_unknown(kind: str, allowed: list[str], options: dict[str, Any]) -> None:
    unknown = set(options) - set(allowed)
    assert not unknown, f"{kind} does not know {sorted(unknown)}"
