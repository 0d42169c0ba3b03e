"""SQL and DDL texts as tokens, without an engine: enough to rewrite names and to find mistakes."""

import re
from collections.abc import Mapping
from itertools import pairwise

__all__ = ["conjuncts", "ddl_columns", "generators", "normal", "sql_mistake", "with_names"]

GENERATORS = frozenset(
    {
        "explode", "explode_outer", "posexplode", "posexplode_outer", "inline", "inline_outer",
        "stack", "json_tuple", "variant_explode", "variant_explode_outer",
    }
)  # fmt: skip
"""Functions that make several rows of one; Spark allows one of them in a select."""

_TYPES = frozenset(
    {
        "string", "boolean", "byte", "tinyint", "short", "smallint", "int", "integer", "long",
        "bigint", "float", "real", "double", "date", "timestamp", "timestamp_ntz", "timestamp_ltz",
        "binary", "void", "variant", "decimal", "dec", "numeric", "char", "character", "varchar",
    }
)  # fmt: skip
_SIZED = frozenset({"decimal", "dec", "numeric", "char", "character", "varchar"})
_CLOSING = {"(": ")", "[": "]"}

_TOKEN = re.compile(
    r"""
    (?P<text>'(?:\\.|''|[^'\\])*'|"(?:\\.|""|[^"\\])*")
    | (?P<quoted>`(?:``|[^`])*`)
    | (?P<word>[^\W\d]\w*)
    | (?P<number>\d+(?:\.\d+)?)
    | (?P<other>\S)
    """,
    re.VERBOSE | re.DOTALL,
)


def with_names(sql: str, names: Mapping[str, str]) -> str:
    """The expression with columns replaced by other expressions.

    Texts, quoted names, fields of structs and functions stay as they are.

    Args:
        sql: an expression.
        names: column names, lower case, to what stands for them.
    """

    def replaced(found: re.Match[str]) -> str:
        word = found[0]
        before, after = sql[: found.start()].rstrip(), sql[found.end() :].lstrip()
        if before.endswith(".") or after.startswith("("):
            return word
        return names.get(word.lower(), word)

    return _TOKEN.sub(replaced, sql)


def sql_mistake(sql: str) -> str:
    """What makes the text no expression, as far as quotes and brackets show it; else empty."""
    opened: list[str] = []
    for found in _TOKEN.finditer(sql):
        sign, place = found[0], f"at character {found.start() + 1}"
        if found.lastgroup == "other" and sign in "'\"`":
            return f"the {sign} {place} isn't closed"
        if sign in _CLOSING:
            opened.append(sign)
        elif sign in _CLOSING.values():
            if not opened or _CLOSING[opened.pop()] != sign:
                return f"the {sign} {place} closes nothing"
        elif sign == ";":
            return f"the ; {place} ends a statement"
    return f"a {opened[-1]} isn't closed" if opened else ""


def generators(sql: str) -> list[str]:
    """The functions in the expression that make several rows of one, lower case."""
    words = _tokens(sql)
    return [
        word.lower()
        for word, following in pairwise(words)
        if word.lower() in GENERATORS and following == "("
    ]


def normal(condition: str) -> str:
    """The condition in a form that is the same for texts that mean the same at first sight.

    Blanks, the case outside of texts, brackets around it and `coalesce(..., false)` don't count.
    """
    words = [t if t[0] in "'\"`" else t.lower() for t in _tokens(condition)]
    while True:
        if words[:1] == ["("] and _closing(words, 0) == len(words) - 1:
            words = words[1:-1]
        elif (
            words[:2] == ["coalesce", "("]
            and words[-3:] == [",", "false", ")"]
            and _closing(words, 1) == len(words) - 1
        ):
            words = words[2:-3]
        else:
            return " ".join(words)


def conjuncts(condition: str) -> list[str]:
    """The normal forms of the conditions that AND joins at the top."""
    parts: list[list[str]] = [[]]
    depth, between = 0, False
    for word in _tokens(normal(condition)):
        depth += (word == "(") - (word == ")")
        if depth == 0 and word == "between":
            between = True
        if depth == 0 and word == "and" and not between:
            parts.append([])
            continue
        if depth == 0 and word == "and":
            between = False
        parts[-1].append(word)
    return [normal(" ".join(part)) for part in parts]


def ddl_columns(ddl: str) -> list[tuple[str, str]]:
    """Names and types of a table schema in DDL text.

    Args:
        ddl: such as `id STRING COMMENT 'the key', lines ARRAY<STRUCT<qty: INT>>`.

    Raises:
        ValueError: it can't be read; the message says what stands where something else should.
    """
    words = _Words(ddl)
    columns = words.fields(end="")
    seen: set[str] = set()
    for name, _ in columns:
        if name.lower() in seen:
            raise ValueError(f"column {name} is there twice")
        seen.add(name.lower())
    return columns


def _tokens(sql: str) -> list[str]:
    return [found[0] for found in _TOKEN.finditer(sql)]


def _closing(words: list[str], opening: int) -> int:
    """Index of the bracket that closes the one at `opening`, or -1."""
    depth = 0
    for index in range(opening, len(words)):
        depth += (words[index] == "(") - (words[index] == ")")
        if depth == 0:
            return index
    return -1


class _Words:
    """DDL, word after word."""

    def __init__(self, ddl: str) -> None:
        self._words = _tokens(ddl)
        self._at = 0

    def fields(self, end: str) -> list[tuple[str, str]]:
        """`name type, ...` up to and without `end`."""
        fields = [self._field()]
        while self._peek() == ",":
            self._take()
            fields.append(self._field())
        if self._peek() != end:
            raise ValueError(f"{_seen(self._peek())} stands where a comma or the end should")
        return fields

    def _field(self) -> tuple[str, str]:
        name = self._take()
        if name[:1] == "`" and len(name) > 2:
            name = name[1:-1].replace("``", "`")
        elif not re.fullmatch(r"\w+", name):
            raise ValueError(f"{_seen(name)} stands where a column's name should")
        if self._peek() == ":":
            self._take()
        kind = self._type(name)
        if [w.lower() for w in self._words[self._at : self._at + 2]] == ["not", "null"]:
            self._at += 2
        if self._peek().lower() == "comment":
            self._take()
            if self._take()[:1] not in {"'", '"'}:
                raise ValueError(f"the comment of column {name} is no text in quotes")
        return name, kind

    def _type(self, column: str) -> str:
        kind = self._take()
        lower = kind.lower()
        if lower in {"array", "map", "struct"}:
            return f"{lower}<{self._inner(lower, column)}>"
        if lower not in _TYPES:
            raise ValueError(f"column {column} has no type that Spark knows: {_seen(kind)}")
        if lower not in _SIZED or self._peek() != "(":
            return lower
        size = ""
        while not size.endswith(")"):
            size += self._take()
        if not re.fullmatch(r"\(\d+(,\d+)?\)", size):
            raise ValueError(f"column {column} has a size that is no number: {kind}{size}")
        return lower + size

    def _inner(self, kind: str, column: str) -> str:
        self._expect("<", column)
        if kind == "struct":
            inner = ",".join(f"{n}:{t}" for n, t in self.fields(end=">"))
        else:
            inner = self._type(column)
        if kind == "map":
            self._expect(",", column)
            inner += "," + self._type(column)
        self._expect(">", column)
        return inner

    def _expect(self, word: str, column: str) -> None:
        found = self._take()
        if found != word:
            raise ValueError(f"{_seen(found)} stands in column {column} where {word} should")

    def _peek(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def _take(self) -> str:
        word = self._peek()
        if not word:
            raise ValueError("it ends where more should stand")
        self._at += 1
        return word


def _seen(word: str) -> str:
    return word or "the end"
