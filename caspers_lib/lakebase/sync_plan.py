"""The plan of a sync, worked out from a spec and what source and target look like.

Pure: columns, types, statements, and what is refused and why. `explain` says it to a person.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from caspers_lib.errors import SyncError
from caspers_lib.lakebase.identifiers import quote_identifier
from caspers_lib.lakebase.pg_types import BINARY_TYPES, PgType, postgres_type, widens
from caspers_lib.lakebase.sync_spec import SyncSpec

__all__ = ["SyncColumn", "SyncPlan", "TargetColumn", "TargetTable", "plan_sync"]


# PostgreSQL's system columns, and the columns that the change feed adds to a row.
_TAKEN = frozenset(
    {"ctid", "tableoid", "xmin", "xmax", "cmin", "cmax"}
    | {"_change_type", "_commit_version", "_commit_timestamp"}
)


@dataclass(frozen=True, slots=True)
class SyncColumn:
    """A column that is synced.

    Args:
        name: its name, the same in source and target.
        type: its PostgreSQL type.
        expression: the Spark expression that is sent.
        source_type: its Spark type.
    """

    name: str
    type: str
    expression: str = ""
    source_type: str = ""

    @property
    def staged_type(self) -> str:
        """Its PostgreSQL type in a staging table: its own, or text that PostgreSQL parses."""
        return self.type if self.type in BINARY_TYPES else "text"


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """A column that the target has.

    Args:
        type: its PostgreSQL type.
        needs_value: a row can't be written without it: not null, no default, not generated.
    """

    type: str
    needs_value: bool = False


@dataclass(frozen=True, slots=True)
class TargetTable:
    """The target as it is.

    Args:
        columns: its columns by name.
        unique: the column groups that are unique, the primary key among them.
        synced: columns of the plan that was last carried out; empty before the first.
        is_ours: a sync made it, or it is empty.
    """

    columns: Mapping[str, TargetColumn]
    unique: tuple[frozenset[str], ...]
    synced: tuple[str, ...] = ()
    is_ours: bool = True


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What is sent, and the statements that make the target ready for it.

    Args:
        spec: the synced table.
        columns: the synced columns, in the target's order.
    """

    spec: SyncSpec
    columns: tuple[SyncColumn, ...]
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Read the columns' names once."""
        object.__setattr__(self, "names", tuple(column.name for column in self.columns))

    @property
    def key_columns(self) -> tuple[SyncColumn, ...]:
        """The columns that identify a row."""
        return tuple(column for column in self.columns if column.name in self.spec.keys)

    @property
    def ddl(self) -> tuple[str, ...]:
        """Statements that create schema, target, dead-letter and position table; idempotent.

        The dead-letter table holds one row per refused change: `commit_version` of the source,
        `raw` (the change's values as a JSON object of texts), `digest` of it, the `reason`.
        """
        spec = self.spec
        columns = ", ".join(f"{quote_identifier(c.name)} {c.type}" for c in self.columns)
        keys = ", ".join(map(quote_identifier, spec.keys))
        return (
            f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(spec.schema)}",
            f"CREATE TABLE IF NOT EXISTS {spec.target} ({columns}, PRIMARY KEY ({keys}))",
            f"CREATE TABLE IF NOT EXISTS {spec.dead_letters} ("
            "commit_version bigint, digest text, raw text NOT NULL, reason text NOT NULL, "
            "batch_id bigint NOT NULL, refused_at timestamptz NOT NULL DEFAULT now(), "
            "PRIMARY KEY (commit_version, digest))",
            f"CREATE TABLE IF NOT EXISTS {spec.positions} ("
            "spec text PRIMARY KEY, source_id text NOT NULL, "
            "generation uuid NOT NULL DEFAULT gen_random_uuid(), "
            "commit_version bigint NOT NULL DEFAULT -1, batch_id bigint NOT NULL DEFAULT -1, "
            "rows_in bigint NOT NULL DEFAULT 0, written bigint NOT NULL DEFAULT 0, "
            "unchanged bigint NOT NULL DEFAULT 0, deleted bigint NOT NULL DEFAULT 0, "
            "refused bigint NOT NULL DEFAULT 0, doubled bigint NOT NULL DEFAULT 0, "
            "columns text[] NOT NULL DEFAULT '{}', "
            "committed_at timestamptz, applied_at timestamptz)",
        )

    @property
    def index_ddl(self) -> tuple[str, ...]:
        """Statements that create the spec's indexes; idempotent."""
        return tuple(
            f"CREATE INDEX IF NOT EXISTS {quote_identifier(_index_name(self.spec.table, names))} "
            f"ON {self.spec.target} ({', '.join(map(quote_identifier, names))})"
            for names in self.spec.indexes
        )

    def changes(self, target: TargetTable | None) -> tuple[str, ...]:
        """Statements that bring the target to the plan.

        Columns that are new in the source are added, types that became wider are widened.

        Args:
            target: the target as it is; None where there is none.

        Raises:
            SyncError: anything else that differs, with what to do about it.
        """
        if target is None:
            return (*self.ddl, *self.index_ddl)
        for problem, hint in self._problems(target):
            raise SyncError(
                f"The target {self.spec.schema}.{self.spec.table} doesn't fit: {problem}.",
                hint=hint,
            )
        alter = f"ALTER TABLE {self.spec.target}"
        statements = []
        for column in self.columns:
            there, name = target.columns.get(column.name), quote_identifier(column.name)
            if there is None:
                statements.append(f"{alter} ADD COLUMN {name} {column.type}")
            elif there.type != column.type:
                statements.append(f"{alter} ALTER COLUMN {name} TYPE {column.type}")
        return (*self.ddl[2:], *statements, *self.index_ddl)

    def explain(self, target: TargetTable | None) -> tuple[str, ...]:
        """The plan in lines for a person.

        Args:
            target: the target as it is; None where there is none.

        Raises:
            SyncError: as `changes`.
        """
        spec = self.spec
        width = max(len(name) for name in self.names)
        lines = [f"{spec.name}: {spec.source} -> {spec.database} {spec.schema}.{spec.table}"]
        ties = f", ties broken by {spec.newest_by}" if spec.newest_by else ""
        lines.append(f"  {spec.mode}, key {', '.join(spec.keys)}{ties}")
        lines += [
            f"  {column.name:<{width}}  {column.source_type} -> {column.type}"
            for column in self.columns
        ]
        fixed = {*self.ddl[2:], *self.index_ddl} if target is not None else set()
        changes = [text for text in self.changes(target) if text not in fixed]
        lines += [f"  will run: {text}" for text in changes] or ["  the target is ready"]
        return tuple(lines)

    def _problems(self, target: TargetTable) -> list[tuple[str, str]]:
        """What keeps the target from being used, each with its cure."""
        alter = f"ALTER TABLE {self.spec.target}"
        if not target.is_ours:
            return [
                (
                    "it exists, has rows, and no sync made it",
                    "Choose another name for the target, or drop the table.",
                )
            ]
        problems = []
        if frozenset(self.spec.keys) not in target.unique:
            keys = ", ".join(map(quote_identifier, self.spec.keys))
            problems.append(
                (f"its primary key isn't ({keys})", f"{alter} ADD PRIMARY KEY ({keys}), or drop it")
            )
        for column in self.columns:
            there = target.columns.get(column.name)
            if there is None and column.name in target.synced:
                problems.append(
                    (
                        f"column {column.name} was synced and is gone",
                        "Drop the table: it is loaded anew. Or leave the column out of the spec.",
                    )
                )
            elif there and there.type != column.type and not widens(there.type, column.type):
                problems.append(
                    (
                        f"column {column.name} is {there.type} there and {column.type} here",
                        "Change it back, or drop the table: it is loaded anew.",
                    )
                )
        for name, there in target.columns.items():
            if name in self.names:
                continue
            if name in target.synced and not self.spec.columns:
                problems.append(
                    (
                        f"the source no longer has column {name}",
                        f"Keep it by naming the columns in the spec, or run {alter} DROP COLUMN "
                        f"{quote_identifier(name)}.",
                    )
                )
            elif there.needs_value:
                problems.append(
                    (
                        f"column {name} needs a value and isn't in the source",
                        f"{alter} ALTER COLUMN {quote_identifier(name)} DROP NOT NULL, or give it "
                        "a default.",
                    )
                )
        return problems


def plan_sync(spec: SyncSpec, source: Mapping[str, str]) -> SyncPlan:
    """The plan of a synced table.

    Args:
        spec: the synced table.
        source: the source's columns, name to Spark type in the short form.

    Returns:
        The plan, its columns in the spec's order or the source's.

    Raises:
        SyncError: a column that the source doesn't have, or one whose name or type PostgreSQL
            can't hold.
    """
    names = spec.columns or tuple(source)
    indexed = [name for group in spec.indexes for name in group]
    named = (*names, *spec.keys, *spec.jsonb, *indexed, *filter(None, [spec.newest_by]))
    for name in named:
        if name not in source or name not in names:
            raise SyncError(
                f"The synced table {spec.name!r} names column {name!r}, which isn't among "
                f"{list(source if name not in source else names)}.",
                hint=f"Compare the spec with the columns of {spec.source}.",
            )
    for name in names:
        if name.lower() in _TAKEN:
            raise SyncError(
                f"The synced table {spec.name!r} has a column {name!r}, a name that PostgreSQL or "
                "the change feed keeps for itself.",
                hint="Rename it in the source, or name the other columns in the spec.",
            )
        quote_identifier(name)
    types = {name: _type(spec, name, source[name]) for name in names}
    for name in spec.keys:
        if types[name].name == "jsonb":
            raise SyncError(
                f"The synced table {spec.name!r} has the key {name!r}, which is {source[name]}.",
                hint="A key is a plain value: text, number, date, timestamp.",
            )
    return SyncPlan(
        spec,
        tuple(SyncColumn(n, types[n].name, types[n].expression, source[n]) for n in names),
    )


def _type(spec: SyncSpec, name: str, spark_type: str) -> PgType:
    try:
        return postgres_type(name, spark_type, json=name in spec.jsonb)
    except SyncError as error:
        raise SyncError(
            f"The synced table {spec.name!r}: {error.message}", hint=error.hint
        ) from error


def _index_name(table: str, columns: tuple[str, ...]) -> str:
    """A name for an index, of at most 63 bytes, that no other columns of the table get."""
    digest = hashlib.sha256(repr((table, columns)).encode()).hexdigest()[:8]
    plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in table)[:40]
    return f"{plain}_{digest}_idx"
