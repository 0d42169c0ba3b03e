"""Where in a workspace the results for people live: a Lakebase database and its synced tables."""

from dataclasses import dataclass, replace

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.domain.tables import line_items_table
from caspers_lib.errors import WorkspaceError
from caspers_lib.lakebase import COMPLAINT_TEXTS, COMPLAINTS, REFUNDS, SyncSpec, order_tables
from caspers_lib.lakebase.managed import (
    ManagedPlace,
    production_branch,
    synced_table_pipeline,
)
from caspers_lib.runtime.settings import Settings
from caspers_lib.workspace.context import Workspace
from caspers_lib.workspace.declared import declared_name
from caspers_lib.workspace_calls import asked, is_conflict

__all__ = ["COMPLAINT_TABLES", "LakebasePlace", "complaint_place", "refresh", "refund_place",
           "refund_tables"]  # fmt: skip

COMPLAINT_TABLES = tuple(replace(spec, mode="continuous") for spec in (COMPLAINT_TEXTS, COMPLAINTS))
"""The synced tables of the complaint manager."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LakebasePlace:
    """A database of the bundle's, and what is synced there.

    Args:
        project: the Lakebase project, `projects/x`.
        tables: what is synced there.
        catalog: the catalog of sources and synced tables.
    """

    project: str
    tables: tuple[SyncSpec, ...]
    catalog: str

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
            branch=production_branch(self.project),
            catalog=self.catalog,
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
        replace(REFUNDS, mode="continuous"),
        *(
            replace(
                spec,
                mode="continuous" if spec.source.rpartition(".")[2] in followed else "snapshot",
            )
            for spec in orders
        ),
    )


def refund_place(settings: Settings) -> LakebasePlace:
    """The refund manager's database.

    Args:
        settings: name the catalog and the bundle's project.

    Raises:
        SettingsError: the bundle told of no project.
    """
    project = declared_name(settings, "postgres_projects.refunds")
    return LakebasePlace(project=project, tables=refund_tables(settings), catalog=settings.catalog)


def complaint_place(settings: Settings) -> LakebasePlace:
    """The complaint manager's database.

    Args:
        settings: name the catalog and the bundle's project.

    Raises:
        SettingsError: the bundle told of no project.
    """
    project = declared_name(settings, "postgres_projects.complaints")
    return LakebasePlace(project=project, tables=COMPLAINT_TABLES, catalog=settings.catalog)


def refresh(workspace: Workspace) -> bool:
    """Copy the refunds' tables anew that are copied whole, which share one pipeline.

    Args:
        workspace: where.

    Returns:
        Whether there is such a pipeline yet.

    Raises:
        WorkspaceError: it could not be started.
    """
    client, tables = workspace.client, refund_tables(workspace.settings)
    copied = next(spec for spec in tables if spec.mode == "snapshot")
    name = workspace.full_name(copied.schema, copied.table)
    pipeline = synced_table_pipeline(client, name)
    if pipeline is None:
        return False
    try:
        asked(
            "The sync of the orders was not started",
            lambda: client.pipelines.start_update(pipeline),
        )
    except WorkspaceError as error:
        # One that runs already takes what is new along, or the next one does.
        if not (isinstance(error.__cause__, Exception) and is_conflict(error.__cause__)):
            raise
    return True
