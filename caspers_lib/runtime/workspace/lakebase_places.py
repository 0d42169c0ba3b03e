"""Where in a workspace the results for people live: projects, catalogs, synced tables.

Contract: DESIGN sections 3 and 9.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.domain.tables import line_items_table
from caspers_lib.errors import WorkspaceError
from caspers_lib.lakebase import COMPLAINT_TEXTS, COMPLAINTS, REFUNDS, SyncSpec, order_tables
from caspers_lib.lakebase.managed import ManagedPlace, production_branch, synced_table_id
from caspers_lib.runtime.settings import Settings
from caspers_lib.runtime.workspace.context import Workspace
from caspers_lib.service_names import lakebase_catalog, project_id
from caspers_lib.workspace_calls import asked, found, is_conflict

__all__ = [
    "COMPLAINT_TABLES",
    "LakebasePlace",
    "complaint_place",
    "refresh",
    "refund_place",
    "refund_tables",
]

COMPLAINT_TABLES = (COMPLAINT_TEXTS, COMPLAINTS)
"""The synced tables of the complaint manager."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LakebasePlace:
    """A project with one database, which is a catalog too.

    Args:
        shown: the project's name as people see it.
        catalog: the database's name in Unity Catalog.
        tables: what is synced there.
        source_catalog: catalog of the sources.
    """

    shown: str
    catalog: str
    tables: tuple[SyncSpec, ...]
    source_catalog: str

    @property
    def project(self) -> str:
        """The project's id."""
        return project_id(self.shown)

    @property
    def branch(self) -> str:
        """The branch, `projects/x/branches/production`."""
        return production_branch(self.project)

    @property
    def database(self) -> str:
        """The PostgreSQL database."""
        return self.tables[0].database

    @property
    def schemas(self) -> tuple[str, ...]:
        """Schemas of the synced tables in PostgreSQL."""
        return tuple(dict.fromkeys(spec.schema for spec in self.tables))

    @property
    def managed(self) -> ManagedPlace:
        """The same, as the platform's synced tables want it."""
        return ManagedPlace(
            branch=self.branch,
            catalog=self.catalog,
            source_catalog=self.source_catalog,
            storage_catalog=self.source_catalog,
            storage_schema=self.tables[0].schema,
        )


def refund_tables(settings: Settings) -> tuple[SyncSpec, ...]:
    """The recommendations, and what the refund manager shows of an order.

    A materialized view has no change feed that a synced table could follow, so it is copied whole.

    Args:
        settings: name the schema of the dimensions.
    """
    domain = GHOST_KITCHEN
    followed = {domain.bronze, line_items_table(domain).name}
    orders = order_tables(domain, dimensions=settings.simulator_schema)
    return (
        REFUNDS,
        *(
            spec if spec.source.rpartition(".")[2] in followed else replace(spec, mode="snapshot")
            for spec in orders
        ),
    )


def refund_place(settings: Settings) -> LakebasePlace:
    """The refund manager's project.

    Args:
        settings: name the catalog.
    """
    return _place(settings, "refundmanager", refund_tables(settings))


def complaint_place(settings: Settings) -> LakebasePlace:
    """The complaint manager's project.

    Args:
        settings: name the catalog.
    """
    return _place(settings, "complaintmanager", COMPLAINT_TABLES)


def refresh(workspace: Workspace, place: LakebasePlace) -> int:
    """Start the sync of what is new, for each synced table that is there.

    Args:
        workspace: where.
        place: whose tables.

    Returns:
        How many are synced now.

    Raises:
        WorkspaceError: a sync could not be started.
    """
    client = workspace.client
    pipelines = []
    for name in _names(place):
        table = found(client.postgres.get_synced_table, f"synced_tables/{name}")
        if table and table.status and table.status.pipeline_id:
            pipelines.append(table.status.pipeline_id)
    for pipeline in pipelines:
        try:
            asked(
                f"The sync of {place.shown} was not started",
                lambda pipeline=pipeline: client.pipelines.start_update(pipeline),  # type: ignore[misc]
            )
        except WorkspaceError as error:
            # One that runs already takes what is new along, or the next one does.
            if not (isinstance(error.__cause__, Exception) and is_conflict(error.__cause__)):
                raise
    return len(pipelines)


def _names(place: LakebasePlace) -> Iterable[str]:
    return (synced_table_id(spec, place.managed) for spec in place.tables)


def _place(settings: Settings, purpose: str, tables: tuple[SyncSpec, ...]) -> LakebasePlace:
    return LakebasePlace(
        shown=f"{settings.catalog}{purpose}",
        catalog=lakebase_catalog(f"{settings.catalog}_{purpose}"),
        tables=tables,
        source_catalog=settings.catalog,
    )
