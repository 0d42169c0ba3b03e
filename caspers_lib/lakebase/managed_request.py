"""What a managed synced table is asked for, and how it differs from our own sync: no I/O.

Why: docs/decisions/managed-synced-tables.md.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caspers_lib.errors import CaspersError, SettingsError, SyncError
from caspers_lib.lakebase.identifiers import MAX_IDENTIFIER_BYTES, qualified, quote_identifier
from caspers_lib.lakebase.sync_spec import SyncSpec
from caspers_lib.service_names import LAKEBASE_PROJECT, SYNCED_TABLE_PART, UNITY_CATALOG_NAME

if TYPE_CHECKING:
    from databricks.sdk.service.postgres import SyncedTable

__all__ = [
    "ManagedPlace",
    "checked_table_id",
    "differences",
    "production_branch",
    "source_name",
    "synced_table_id",
    "synced_table_request",
]

_BRANCH = re.compile(rf"projects/{LAKEBASE_PROJECT.pattern}/branches/{LAKEBASE_PROJECT.pattern}")
# It ends up in the path of a request, which the SDK doesn't quote.
_PLAIN = re.compile(rf"[A-Za-z0-9_]{{1,{MAX_IDENTIFIER_BYTES}}}")
_LETTERS = "It has 1 to {} ASCII letters, digits and underscores."


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedPlace:
    """Where in a workspace a synced table lives and what it uses there.

    Args:
        branch: the branch of the Lakebase project, `projects/x/branches/y`.
        catalog: an ordinary catalog: the synced table is listed in it, a source that is named by
            schema and table alone is in it, and the pipeline keeps its checkpoints there.
        storage_schema: the schema of the checkpoints.

    Raises:
        SettingsError: a name that the service would not take.
    """

    branch: str
    catalog: str
    storage_schema: str

    def __post_init__(self) -> None:
        """Refuse names before anything is created."""
        if not _BRANCH.fullmatch(self.branch):
            raise SettingsError(
                f"branch is {self.branch!a}, which is no path of a branch.",
                hint="Write it as projects/<id>/branches/<id>.",
            )
        _checked_catalog(self.catalog)
        _checked_unity_name("storage_schema", self.storage_schema, SettingsError)

    @property
    def project(self) -> str:
        """The branch's project, `projects/x`."""
        return self.branch.partition("/branches/")[0]


def production_branch(project: str) -> str:
    """The branch that every project is created with.

    Args:
        project: the project, `projects/x`.

    Raises:
        SettingsError: it is no path of a project.
    """
    if not re.fullmatch(rf"projects/{LAKEBASE_PROJECT.pattern}", project):
        raise SettingsError(
            f"project is {project!a}, which is no Lakebase project.",
            hint="Write it as projects/<id>.",
        )
    return f"{project}/branches/production"


def source_name(spec: SyncSpec, catalog: str) -> str:
    """The source as `catalog.schema.table`.

    Args:
        spec: what is synced.
        catalog: the catalog of a source with two parts.

    Raises:
        SyncError: a part of the name is none of Unity Catalog's.
    """
    parts = spec.source.split(".")
    if len(parts) == 2:
        parts = [catalog, *parts]
    for part in parts:  # a fourth one would be empty, or the spec had been refused
        _checked_unity_name(f"A part of the source of {spec.name!a}", part, SyncError)
    return ".".join(parts)


def synced_table_id(spec: SyncSpec, place: ManagedPlace) -> str:
    """The name of a managed synced table in Unity Catalog, `catalog.schema.table`.

    Args:
        spec: what is synced.
        place: where.

    Raises:
        SyncError: the service takes no such schema or table.
    """
    _checked(f"The schema of {spec.name!a}", spec.schema, SyncError)
    _checked(f"The table of {spec.name!a}", spec.table, SyncError)
    return f"{place.catalog}.{spec.schema}.{spec.table}"


def synced_table_request(
    spec: SyncSpec, place: ManagedPlace, *, pipeline: str | None = None
) -> tuple[str, "SyncedTable"]:
    """What `w.postgres.create_synced_table` is asked for.

    JSON text stays text, dead letters and indexes are not made: `differences` names all of it.

    Args:
        spec: what is synced.
        place: where.
        pipeline: id of the pipeline that syncs it too; a new one if None.

    Returns:
        The synced table's id, `catalog.schema.table`, and the request's body.

    Raises:
        SyncError: the spec asks for what a managed synced table can't do, or has a name that the
            service doesn't take.
    """
    from databricks.sdk.service import postgres

    _refuse_columns(spec)
    newest = () if spec.newest_by is None else (spec.newest_by,)
    for column in (*spec.keys, *newest):
        quote_identifier(column)
    _checked(f"The database of {spec.name!a}", spec.database, SyncError)
    policy = postgres.SyncedTableSyncedTableSpecSyncedTableSchedulingPolicy[spec.mode.upper()]
    body = postgres.SyncedTableSyncedTableSpec(
        branch=place.branch,
        postgres_database=spec.database,
        source_table_full_name=source_name(spec, place.catalog),
        primary_key_columns=list(spec.keys),
        timeseries_key=spec.newest_by,
        scheduling_policy=policy,
        create_database_objects_if_missing=True,
        existing_pipeline_id=pipeline,
    )
    if pipeline is None:
        body.new_pipeline_spec = postgres.NewPipelineSpec(
            storage_catalog=place.catalog, storage_schema=place.storage_schema
        )
    return synced_table_id(spec, place), postgres.SyncedTable(spec=body)


def differences(spec: SyncSpec) -> tuple[str, ...]:
    """What of a spec a managed synced table does otherwise than our own sync.

    Args:
        spec: what is synced.

    Returns:
        One sentence for each difference.

    Raises:
        SyncError: a name is too long for PostgreSQL or holds NUL.
    """
    target = qualified(spec.schema, spec.table)
    found = [
        f"{column} stays text: read it as {quote_identifier(column)}::jsonb."
        for column in spec.jsonb
    ]
    found += [
        f"An index is missing: CREATE INDEX ON {target} ({', '.join(map(quote_identifier, group))})"
        for group in spec.indexes
    ]
    if spec.newest_by is not None:
        found.append(
            f"Of all rows with one key the one with the greatest {spec.newest_by} counts,"
            " whatever commit it came with."
        )
    if target != target.lower():
        found.append(f"Unity Catalog keeps {spec.schema}.{spec.table} in lower case.")
    return (
        *found,
        "There are no dead letters: a row that PostgreSQL refuses may stop the whole sync.",
        "There is no row of positions: ask for synced_table_status.",
    )


def checked_table_id(table: str) -> str:
    """The same id, if a managed synced table can have it.

    Args:
        table: `catalog.schema.table`.

    Raises:
        SettingsError: no managed synced table can have this id.
    """
    parts = table.split(".")
    patterns = (SYNCED_TABLE_PART, _PLAIN, _PLAIN)
    if len(parts) != 3 or not all(p.fullmatch(x) for p, x in zip(patterns, parts, strict=True)):
        raise SettingsError(
            f"{table!a} is no synced table.", hint="Write it as catalog.schema.table."
        )
    return table


def _refuse_columns(spec: SyncSpec) -> None:
    if spec.columns:
        raise SyncError(
            f"The synced table {spec.name!a} selects columns: {', '.join(spec.columns)!a}; a"
            " managed synced table has all of its source.",
            hint="Sync a source that has these columns alone.",
        )


def _checked_catalog(name: str) -> str:
    if not SYNCED_TABLE_PART.fullmatch(name):
        raise SettingsError(
            f"catalog is {name[:80]!a}, which can't have synced tables.",
            hint="It has 1 to 255 ASCII letters, digits, underscores and hyphens.",
        )
    return name


def _checked_unity_name(what: str, name: str, error: type[CaspersError]) -> None:
    if not UNITY_CATALOG_NAME.fullmatch(name):
        raise error(
            f"{what} is {name[:80]!a}, which Unity Catalog doesn't take.",
            hint="A name has 1 to 255 characters and no dot, slash, space or control character.",
        )


def _checked(what: str, name: str, error: type[CaspersError]) -> str:
    if not _PLAIN.fullmatch(name):
        raise error(
            f"{what} is {name[:80]!a}, which Lakebase doesn't take.",
            hint=_LETTERS.format(MAX_IDENTIFIER_BYTES),
        )
    return name
