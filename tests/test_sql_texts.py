"""Every SQL text that the library hands to Spark or to a SQL warehouse is one of Databricks.

The texts come from the source itself: each call that takes SQL is found there, and its argument is
worked out with the module's own names and the local ones below. `RUN_BY` names the tests that run
them on Spark; a real server runs those for PostgreSQL.
"""

import ast
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from caspers_lib.agents.contracts import ComplaintAnswer, RefundAnswer
from caspers_lib.agents.model.askers import AiQueryAsker
from caspers_lib.agents.model.request_form import RequestForm
from caspers_lib.agents.tables import AGENT_TABLES
from caspers_lib.agents.tools import AI_SCHEMA, TOOL_NAMES, tools_ddl
from caspers_lib.domain import GHOST_KITCHEN, domain_tables, event_rules
from caspers_lib.domain.rules import accepted_condition
from caspers_lib.lakebase import SyncSpec, plan_sync
from caspers_lib.lakebase.managed import change_feed_cures
from caspers_lib.medallion.dlt_meta import DltMetaSettings, dlt_meta_files
from caspers_lib.medallion.incremental import _days_of
from caspers_lib.medallion.lifecycle import lifecycle_columns
from caspers_lib.medallion.reconciliation import reconciliation_sql
from caspers_lib.medallion.views import view_queries
from caspers_lib.spark_sql import quote_name
from caspers_lib.workspace.lakehouse import agent_tables_in
from caspers_lib.workspace.resource_state import RESOURCES, Resource, resources_table
from caspers_lib.workspace.state_stores import WarehouseResourceStore

ROOT = Path(__file__).parents[1]
HOSTILE = "o'br`ien\"--"
DOMAIN = GHOST_KITCHEN
RULES = event_rules(DOMAIN)
TABLES = domain_tables(DOMAIN)
QUOTED = quote_name(HOSTILE, "lakeflow", "all_events")
Names = dict[str, Any]


def sent_columns() -> list[Any]:
    """A column of each type that crosses over in a way of its own."""
    kinds = {HOSTILE: "string", "a": "array<int>", "s": "struct<b:int>", "v": "binary",
             "d": "decimal(12,2)", "t": "timestamp", "m": "map<string,int>"}  # fmt: skip
    spec = SyncSpec(name="x", source="a.b", keys=(HOSTILE,), database="d", schema="s", table="t")
    return list(plan_sync(spec, kinds).columns)


def warehouse_statements() -> list[str]:
    """What the account of resources asks of a warehouse."""
    asked: list[str] = []

    def execute(statement: str, *_: Any, **_more: Any) -> SimpleNamespace:
        asked.append(statement)
        status = SimpleNamespace(state=SimpleNamespace(value="SUCCEEDED"))
        return SimpleNamespace(status=status, manifest=None, result=None, statement_id="1")

    client: Any = SimpleNamespace(statement_execution=SimpleNamespace(execute_statement=execute))
    store = WarehouseResourceStore(client, "w", HOSTILE, HOSTILE, HOSTILE)
    store.prepare()
    store.read()
    store.others_live()
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    store.write(
        Resource(kind="app", name=HOSTILE, status="ready", created_at=moment, updated_at=moment)
    )
    return asked


LIB = "caspers_lib"
# The local names that stand in a function's texts, each time with other values.
LOCALS: dict[str, list[Names]] = {
    f"{LIB}/agents/model/answers.py _Batch.merge_answers": [{"name": "a.b", "key": "order_id"}],
    f"{LIB}/agents/model/answers.py _Batch.close": [{"spec": AGENT_TABLES.open_questions}],
    f"{LIB}/agents/model/answers.py _same_key": [
        {"table": AGENT_TABLES.model_calls},
        {"table": AGENT_TABLES.recommendations},
    ],
    f"{LIB}/agents/model/askers.py AiQueryAsker._rows": [
        {
            "self": AiQueryAsker(endpoint="databricks-x", kind=kind, instructions=HOSTILE),
            "form": RequestForm(),
        }
        for kind in (RefundAnswer, ComplaintAnswer)
    ],
    f"{LIB}/agents/serving/order_lookup.py WarehouseLookup._rows": [
        {
            "row": "to_json(struct(*), map('ignoreNullFields', 'false', 'timeZone', 'UTC'))",
            "function": quote_name(HOSTILE, AI_SCHEMA, "get_order_timing"),
        }
    ],
    f"{LIB}/agents/tables.py ensure_tables": [
        {"spec": spec}
        for tables in (AGENT_TABLES, agent_tables_in(HOSTILE))
        for spec in tables.written
    ],
    f"{LIB}/agents/tools.py create_tools": [
        {"statement": statement}
        for catalog in (None, HOSTILE)
        for statement in tools_ddl(catalog=catalog)
    ],
    f"{LIB}/agents/tools.py call_tool": [
        {"function": quote_name(HOSTILE, AI_SCHEMA, tool)} for tool in TOOL_NAMES
    ],
    f"{LIB}/lakebase/change_feed.py read_source": [{"name": QUOTED}],
    f"{LIB}/lakebase/change_feed.py _has_every_commit": [{"name": QUOTED, "wanted": 5}],
    f"{LIB}/lakebase/change_feed.py sent_rows": [{"c": column} for column in sent_columns()],
    f"{LIB}/lakebase/continuous.py _apply_batch": [{"since": -1}],
    f"{LIB}/medallion/bronze.py events_of_lines": [
        {"source": "_metadata.file_path"},
        {"source": "'repaired'"},
    ],
    f"{LIB}/medallion/bronze.py _misfits": [{"cases": "WHEN 'a' THEN event.a IS NULL"}],
    f"{LIB}/medallion/lifecycle.py silver_order_lifecycle": [
        {"sql": sql} for sql in lifecycle_columns(quote_name).values()
    ],
    f"{LIB}/medallion/gold.py aggregate": [
        {"k": key, "m": measure, "approximate": approximate}
        for table in DOMAIN.gold
        for key in table.keys
        for measure in table.measures
        for approximate in (False, True)
    ],
    f"{LIB}/medallion/incremental.py _Source.touched_days": [
        {"day": DOMAIN.day_column, "text": f"CAST({DOMAIN.day_column} AS STRING)"}
    ],
    f"{LIB}/medallion/incremental.py _Update.source": [{"name": QUOTED}],
    f"{LIB}/medallion/incremental.py _Update._merge_lifecycle": [
        {"name": "`lakeflow`.`lifecycle`", "sql": sql, "key": "order_id"}
        for sql in lifecycle_columns(lambda column: f"least(`a`.{column}, new.{column})").values()
    ],
    f"{LIB}/medallion/incremental.py _Update._write": [
        {"where": _days_of(table, ["2026-02-28", "+10000-01-01"])}
        for table in DOMAIN.gold
        if table.day or table.hour
    ],
    f"{LIB}/medallion/incremental.py _Update._write_whole": [{"there": table} for table in TABLES],
    f"{LIB}/medallion/quality.py parsed_events": [{"domain": DOMAIN}],
    f"{LIB}/medallion/quality.py violated": [
        {"rules": RULES, "actions": actions} for actions in ((), ("quarantine",), ("fail",))
    ],
    f"{LIB}/medallion/quality.py accepted_events": [{"domain": DOMAIN}],
    f"{LIB}/medallion/quality.py _all_hold": [
        {"rules": RULES, "actions": ("drop", "quarantine")},
        {"rules": (), "actions": ()},
    ],
    f"{LIB}/medallion/quality.py _holds": [{"rule": rule} for rule in RULES],
    f"{LIB}/medallion/reconciliation.py reconciliation": [
        {"query": reconciliation_sql("{events}", "{quarantined}")}
    ],
    f"{LIB}/medallion/registration.py _Declarations.silver.lines": [{"opening": DOMAIN.opening}],
    f"{LIB}/medallion/silver.py silver_order_items": [{"c": c} for c in DOMAIN.line_items.derived],
    f"{LIB}/medallion/views.py create_views": [
        {"schema": f"{HOSTILE}.lakeflow", "name": name, "query": query}
        for name, query in view_queries(
            f"{HOSTILE}.lakeflow", "simulator", {r.dimension for r in DOMAIN.references}
        ).items()
    ],
    f"{LIB}/runtime/catalog.py register_tables": [{"schema": HOSTILE, "folder": f"/{HOSTILE}\\"}],
    f"{LIB}/runtime/catalog.py _register": [{"name": QUOTED, "place": "'/a'"}],
    f"{LIB}/workspace/agent_tasks.py _tools": [
        {"statement": statement} for statement in tools_ddl(catalog=HOSTILE)
    ],
    f"{LIB}/workspace/agent_tasks.py _table": [{"table": agent_tables_in(HOSTILE).recommendations}],
    # Runs what the two above hand over.
    f"{LIB}/workspace/lakehouse.py SparkLakehouse.execute": [{"statement": RESOURCES.create_sql()}],
    f"{LIB}/workspace/state_stores.py DeltaResourceStore.prepare": [
        {"sql": f"CREATE SCHEMA IF NOT EXISTS {quote_name(HOSTILE, '_internal_state')}"},
        {"sql": resources_table(f"{HOSTILE}._internal_state.resources").create_sql()},
    ],
    f"{LIB}/workspace/state_stores.py WarehouseResourceStore._run": [
        {"sql": statement} for statement in warehouse_statements()
    ],
    "examples/notebooks/run_agent_streams.py": [{"catalog": HOSTILE, "quote_name": quote_name}],
    "examples/notebooks/score_one_order.py": [
        {"catalog": HOSTILE, "quote_name": quote_name, "GHOST_KITCHEN": DOMAIN}
    ],
}

# Where each file's texts are run on Spark.
RUN_BY = {
    f"{LIB}/agents/model/answers.py": "agents/model/test_answers.py",
    f"{LIB}/agents/model/askers.py": "agents/model/test_askers.py",
    f"{LIB}/agents/model/prompts.py": "agents/model/test_answers.py",
    f"{LIB}/agents/serving/order_lookup.py": "agents/serving/test_order_lookup.py",
    f"{LIB}/agents/streams.py": "agents/test_streams.py",
    f"{LIB}/agents/tables.py": "agents/test_streams.py",
    f"{LIB}/agents/timings.py": "agents/test_timings.py",
    f"{LIB}/agents/tools.py": "agents/test_tools.py",
    f"{LIB}/agents/triage.py": "agents/test_triage.py",
    f"{LIB}/lakebase/change_feed.py": "lakebase/test_change_feed.py",
    f"{LIB}/lakebase/continuous.py": "lakebase/test_follower.py",
    f"{LIB}/medallion/bronze.py": "medallion/test_bronze.py",
    f"{LIB}/medallion/gold.py": "medallion/test_gold.py",
    f"{LIB}/medallion/incremental.py": "medallion/test_pipeline_oracle.py",
    f"{LIB}/medallion/lifecycle.py": "medallion/test_lifecycle.py",
    f"{LIB}/medallion/quality.py": "medallion/test_quality.py",
    f"{LIB}/medallion/reconciliation.py": "medallion/test_quality.py",
    f"{LIB}/medallion/registration.py": "medallion/test_spark_pipelines.py",
    f"{LIB}/medallion/silver.py": "medallion/test_silver.py",
    f"{LIB}/medallion/views.py": "medallion/test_views.py",
    f"{LIB}/runtime/catalog.py": "runtime/test_catalog.py",
    f"{LIB}/runtime/spark.py": "runtime/test_spark.py",
    f"{LIB}/workspace/agent_tasks.py": "agents/test_tools.py",
    f"{LIB}/workspace/lakehouse.py": "agents/test_tools.py",
    f"{LIB}/workspace/state_stores.py": "workspace/test_state_stores.py",
    "examples/notebooks/run_agent_streams.py": "agents/test_notebooks.py",
    "examples/notebooks/score_one_order.py": "agents/test_notebooks.py",
}


@dataclass(frozen=True)
class Call:
    """A call that takes SQL.

    Args:
        file: where it stands.
        function: in which function, with its class.
        text: the expression of the SQL.
        filled: names of what Spark puts into the text's braces.
    """

    file: str
    function: str
    text: ast.expr
    filled: tuple[str, ...]

    @property
    def site(self) -> str:
        return f"{self.file} {self.function}".strip()

    def sql(self, names: Names) -> str:
        """The text, once its names are known."""
        known: Names = {}
        if self.file.startswith(LIB):
            module = self.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            known = vars(import_module(module))
        code = compile(ast.Expression(self.text), self.file, "eval")
        text: str = eval(code, {**known, **names})  # noqa: S307 - an expression of our own source
        return text.format(**{name: f"`{name}`" for name in self.filled}) if self.filled else text


def calls_in(path: Path) -> Iterator[Call]:
    file = str(path.relative_to(ROOT))

    def walk(node: ast.AST, inside: tuple[str, ...]) -> Iterator[Call]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call):
                filled = tuple(word.arg or "" for word in child.keywords)
                is_sql = isinstance(child.func, ast.Attribute) and child.func.attr == "sql"
                for text in sql_arguments(child):
                    yield Call(file, ".".join(inside), text, filled if is_sql else ())
            named = isinstance(child, ast.FunctionDef | ast.ClassDef)
            yield from walk(child, (*inside, child.name) if named else inside)  # type: ignore[attr-defined]

    return walk(ast.parse(path.read_text("utf-8")), ())


def sql_arguments(call: ast.Call) -> Sequence[ast.expr]:
    """The arguments that are SQL of Spark or of a warehouse."""
    function, given = call.func, call.args
    if ast.unparse(function) == "partial":
        function, given = given[0], given[1:]
    if not isinstance(function, ast.Attribute) or not given:
        return ()
    method, receiver = function.attr, ast.unparse(function.value).lower()
    takes_one = (
        method in {"expr", "execute_statement"}
        or (method == "sql" and receiver.endswith(("spark", "sparksession")))
        or (method == "execute" and receiver.endswith("lakehouse"))
        # Other conditions are columns.
        or (method in {"where", "filter"} and isinstance(given[0], ast.Constant | ast.JoinedStr))
    )
    if takes_one:
        return given[:1]
    if method == "option" and ast.unparse(given[0]) == "'replaceWhere'":
        return given[1:]
    return given if method == "selectExpr" else ()


CALLS = [
    call
    for folder in (LIB, "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
    for call in calls_in(path)
]
SITES = list(dict.fromkeys(call.site for call in CALLS))


# What sqlglot doesn't read; Delta Lake documents both, and Spark runs both in other tests.
_QUOTED = r"`(?:[^`]|``)+`(?:\.`(?:[^`]|``)+`){0,2}"
UNREAD = re.compile(rf"DESCRIBE DETAIL {_QUOTED}|DESCRIBE HISTORY {_QUOTED} LIMIT \d+")


def parsed(text: str) -> "exp.Expr":
    """What sqlglot makes of one statement or expression, every word of it understood."""
    (found,) = sqlglot.parse(text, dialect="databricks", error_level=sqlglot.ErrorLevel.RAISE)
    assert found is not None
    # What sqlglot doesn't understand it keeps as a command.
    assert not list(found.find_all(exp.Command)), text
    return found


@pytest.mark.parametrize("site", SITES)
def test_every_text_that_a_function_hands_over_is_databricks_sql(site: str) -> None:
    for call in (call for call in CALLS if call.site == site):
        for names in LOCALS.get(site, [{}]):
            try:
                text = call.sql(names)
            except NameError as error:
                pytest.fail(f"{site} puts {error.name} into its SQL: name it in LOCALS")
            if not UNREAD.fullmatch(text):
                parsed(text)


def test_each_named_function_still_hands_sql_over() -> None:
    assert set(LOCALS) <= set(SITES)


def test_each_file_with_sql_has_a_test_that_runs_it_on_spark() -> None:
    assert set(RUN_BY) == {call.file for call in CALLS}
    for test in set(RUN_BY.values()):
        assert re.search(r"\bspark\b", (ROOT / "tests" / test).read_text("utf-8")), test


def test_what_is_no_sql_is_found() -> None:
    for text in ("SELECT a FROM", "a = = b", "CREATE TABLE `a (`b` INT)", "MERGE INTO a USING"):
        with pytest.raises(sqlglot.errors.SqlglotError):
            parsed(text)
    with pytest.raises(AssertionError):
        parsed("ALTER TABLE a FROB b")


def test_what_sqlglot_is_said_not_to_read_it_does_not() -> None:
    for text in (f"DESCRIBE DETAIL {QUOTED}", f"DESCRIBE HISTORY {QUOTED} LIMIT 1"):
        assert UNREAD.fullmatch(text)
        with pytest.raises(sqlglot.errors.ParseError):
            parsed(text)


@pytest.mark.parametrize("table", [*TABLES, RESOURCES], ids=lambda table: table.name)
@pytest.mark.parametrize("replace", [False, True])
def test_a_table_is_made_with_all_its_columns(table: Any, replace: bool) -> None:
    made = parsed(table.create_sql(replace=replace))
    assert [c.name for c in made.find_all(exp.ColumnDef) if isinstance(c.parent, exp.Schema)] == [
        c.name for c in table.columns
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rules_condition_is_one_that_an_engine_may_expect(rule: Any) -> None:
    parsed(rule.condition)
    parsed(f"SELECT 1 FROM t WHERE coalesce({rule.condition}, false)")


def test_texts_that_are_handed_over_by_other_ways() -> None:
    parsed(accepted_condition(DOMAIN))
    # How to cure a source without a change feed, in errors.
    for source in ("a.b.c", f"{HOSTILE}.b.c"):
        for _, cure in change_feed_cures(source):
            assert isinstance(parsed(cure), exp.Alter)


def export_texts() -> Iterator[str]:
    files = dlt_meta_files(DltMetaSettings(events="/Volumes/c/s/events", folder="/Volumes/c/s/m"))
    for name, text in files.items():
        if name.endswith(".ddl"):
            yield f"CREATE TABLE t ({text})"
        elif name.endswith(".sql"):
            yield from filter(str.strip, text.split(";\n"))
        elif "expectations" in name:
            yield from (one for group in json.loads(text).values() for one in group.values())
        elif "transformations" in name:
            for step in json.loads(text):
                yield f"SELECT {', '.join(step['select_exp'])} FROM t"
                yield from step["where_clause"]


def test_every_text_of_the_export_is_databricks_sql() -> None:
    texts = list(export_texts())
    warnings, gold = [r for r in RULES if r.action == "warn"], TABLES[3:]
    # And the schema, the quarantine's predicate, silver's select and its two conditions.
    assert len(texts) == len(warnings) + len(gold) + 5
    for text in texts:
        parsed(text)
