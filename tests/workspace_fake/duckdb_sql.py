"""Statements in Databricks' SQL, run on DuckDB as far as the two agree."""

import re
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tests.workspace_fake.warehouses import Column

if TYPE_CHECKING:
    import duckdb

__all__ = ["DuckDBExecutor", "translated"]

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|/\*.*?\*/)
  | (?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
  | (?P<name>`(?:[^`]|``)+`|[A-Za-z_]\w*)
  | (?P<cast>::)
  | (?P<marker>:[A-Za-z_]\w*)
  | (?P<other>\d[\w.]*|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_BEFORE_NAMES = {"FROM", "JOIN", "INTO", "TABLE", "UPDATE", "EXISTS", "VIEW", "USING", "SCHEMA"}
_NO_NAMES = {"IF", "TABLE", "SELECT", "VALUES", "SET"}
_MACROS = (
    "CREATE MACRO unix_micros(moment) AS epoch_us(moment)",
    "CREATE MACRO timestamp_micros(micros) AS make_timestamp(micros)",
    "CREATE TYPE timestamp_ltz AS TIMESTAMP",
)
Token = tuple[str, str]


class DuckDBExecutor:
    """Runs statements in memory; a schema `c.s` is DuckDB's schema of this name, dot included.

    Delta's clauses are left out. Names of three parts are understood where a table or schema is
    named; what DuckDB's SQL doesn't have fails.
    """

    def __init__(self) -> None:
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._lock = threading.Lock()

    @property
    def connection(self) -> "duckdb.DuckDBPyConnection":
        """DuckDB itself, to put in data or to look."""
        if self._connection is None:
            import duckdb

            self._connection = duckdb.connect(":memory:")
            self._connection.execute("SET TimeZone = 'UTC'")
            for macro in _MACROS:
                self._connection.execute(macro)
        return self._connection

    def __call__(
        self, statement: str, parameters: dict[str, object]
    ) -> tuple[Sequence[Column], Sequence[Sequence[object]]]:
        """Run a statement.

        Args:
            statement: in Databricks' SQL.
            parameters: values of its named markers.

        Returns:
            Columns with their types, and rows.

        Raises:
            ValueError: a marker has no value.
            duckdb.Error: it fails.
        """
        sql, markers, schemas = translated(statement)
        if missing := sorted(markers - set(parameters)):
            raise ValueError(f"[UNBOUND_SQL_PARAMETER] Found the unbound parameter: {missing[0]}.")
        with self._lock:
            for schema in sorted(schemas):
                self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(schema)}")
            done = self.connection.execute(sql, {name: parameters[name] for name in markers})
            if done.description is None:
                return [], []
            rows = done.fetchall()
            return [(str(item[0]), _type(item[1])) for item in done.description], rows

    def close(self) -> None:
        """Forget everything."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def translated(statement: str) -> tuple[str, set[str], set[str]]:
    """A statement in DuckDB's SQL.

    Args:
        statement: in Databricks' SQL.

    Returns:
        The statement, the names of its markers, and the schemas that its tables are in.
    """
    tokens = _without_clauses(_tokens(statement))
    markers = {text[1:] for kind, text in tokens if kind == "marker"}
    schemas: set[str] = set()
    parts = list(_renamed(tokens, schemas))
    return "".join(parts), markers, schemas


def _tokens(statement: str) -> list[Token]:
    found = _TOKEN.finditer(statement.strip().rstrip(";"))
    return [(str(match.lastgroup), match[0]) for match in found if match.lastgroup]


def _next(tokens: list[Token], place: int) -> int:
    """The place of the next token that is no space."""
    while place < len(tokens) and tokens[place][0] == "space":
        place += 1
    return place


def _word(tokens: list[Token], place: int) -> str:
    return tokens[place][1].upper() if place < len(tokens) else ""


def _without_clauses(tokens: list[Token]) -> list[Token]:
    """Without what only Delta needs: its name, comments, properties, layout."""
    kept: list[Token] = []
    place = 0
    while place < len(tokens):
        after = _next(tokens, place + 1)
        word, following = _word(tokens, place), _word(tokens, after)
        is_text = after < len(tokens) and tokens[after][0] == "text"
        if (word == "USING" and following == "DELTA") or (word == "COMMENT" and is_text):
            place = after + 1
        elif word == "TBLPROPERTIES" and following == "(":
            place = _closed(tokens, after)
        elif word in {"CLUSTER", "PARTITIONED"} and following == "BY":
            place = _closed(tokens, _next(tokens, after + 1))
        else:
            kept.append(tokens[place])
            place += 1
    return kept


def _closed(tokens: list[Token], place: int) -> int:
    """The place after the parenthesis that closes the one here."""
    depth = 0
    while place < len(tokens):
        depth += {"(": 1, ")": -1}.get(tokens[place][1], 0)
        place += 1
        if depth == 0:
            break
    return place


def _renamed(tokens: list[Token], schemas: set[str]) -> Iterator[str]:
    """Each token in DuckDB's words."""
    place, before, one_before = 0, "", ""
    while place < len(tokens):
        kind, text = tokens[place]
        if kind == "name" and before in _BEFORE_NAMES and text.upper() not in _NO_NAMES:
            names, place = _dotted(tokens, place)
            is_schema = before == "SCHEMA" or (before == "EXISTS" and one_before == "SCHEMA")
            yield _table(names, schemas, is_schema=is_schema)
            before = ""
            continue
        if kind == "name" and text.startswith("`"):
            yield _quoted(text[1:-1].replace("``", "`"))
        elif kind == "marker":
            yield "$" + text[1:]
        elif kind == "text":
            yield _literal(text)
        else:
            yield text
        if kind == "name" and text.upper() in {"IF", "NOT"}:
            one_before = before if before in {"SCHEMA", "TABLE", "VIEW"} else one_before
        if kind != "space":
            before = text.upper()
        place += 1


def _dotted(tokens: list[Token], place: int) -> tuple[list[str], int]:
    """Names that dots join, and the place after them."""
    names = []
    while place < len(tokens) and tokens[place][0] == "name":
        text = tokens[place][1]
        names.append(text[1:-1].replace("``", "`") if text.startswith("`") else text)
        if _word(tokens, place + 1) != "." or _word(tokens, place + 2) in {"", "*"}:
            return names, place + 1
        place += 2
    return names, place


def _table(names: list[str], schemas: set[str], *, is_schema: bool) -> str:
    if is_schema:
        return _quoted(".".join(names))
    if len(names) == 3:
        schemas.add(".".join(names[:2]))
        return f"{_quoted('.'.join(names[:2]))}.{_quoted(names[2])}"
    if len(names) == 1 and re.fullmatch(r"[A-Za-z_]\w*", names[0]):
        return names[0]  # perhaps a keyword, such as SELECT after INTO
    return ".".join(map(_quoted, names))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    """A text without backslashes; both kinds of quotes enclose one."""
    quote, inner = text[0], text[1:-1]
    inner = inner.replace(quote * 2, quote)
    escapes = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}
    inner = re.sub(r"\\(.)", lambda m: escapes.get(m[1], m[1]), inner, flags=re.DOTALL)
    return "'" + inner.replace("'", "''") + "'"


def _type(kind: object) -> str:
    text = str(kind).upper()
    known = {
        "VARCHAR": "STRING", "INTEGER": "INT", "HUGEINT": "DECIMAL(38,0)", "NUMBER": "DECIMAL",
        "TIMESTAMP WITH TIME ZONE": "TIMESTAMP", "BOOL": "BOOLEAN", "BLOB": "BINARY",
    }  # fmt: skip
    return known.get(text, text)
