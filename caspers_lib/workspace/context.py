"""What every task is given: the settings, the workspace, Spark, and the account of resources."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from caspers_lib.errors import SettingsError, WorkspaceError, first_cause
from caspers_lib.runtime.settings import Settings
from caspers_lib.workspace.lakehouse import Lakehouse, SparkLakehouse
from caspers_lib.workspace.ledger import Ensured, Ledger
from caspers_lib.workspace.resource_state import RESOURCES, ResourceStore
from caspers_lib.workspace_calls import Patience

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from pyspark.sql import DataFrame, SparkSession

    from caspers_lib.lakebase import Database

__all__ = ["TaskOutcome", "Workspace", "workspace_client"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOutcome:
    """What a task did.

    Args:
        task: its name in the graph.
        done: one line on it.
        resources: what became of each resource that it needs.
    """

    task: str
    done: str
    resources: tuple[Ensured, ...] = ()

    def frame(self, spark: "SparkSession") -> "DataFrame":
        """The outcome as a table to display: what, name, became; the first row is the task's own.

        Args:
            spark: the session.
        """
        rows = [("task", self.task, self.done)]
        rows += [(r.kind, r.name, f"{r.became} {r.detail}".strip()) for r in self.resources]
        return spark.createDataFrame(rows, "what STRING, name STRING, became STRING")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A workspace, as a task uses it.

    Args:
        settings: the deployment's parameters.
        client: the workspace's services.
        lakehouse: Spark and the volumes.
        ledger: the account of resources.
        patience: how long to wait for what the services make.
        now: the wall clock, UTC epoch seconds.
        mlflow: the module mlflow, or what stands in for it; loaded by who needs it if None.
        reach: gives how a database is reached, of client, branch and name; `lakebase_database`
            if None.
    """

    settings: Settings
    client: "WorkspaceClient"
    lakehouse: Lakehouse
    ledger: Ledger
    patience: Patience = field(default_factory=Patience)
    now: Callable[[], float] = time.time
    mlflow: ModuleType | None = None
    reach: "Callable[[WorkspaceClient, str, str], Database] | None" = None

    @classmethod
    def here(
        cls,
        settings: Settings,
        spark: "SparkSession",
        *,
        client: "WorkspaceClient | None" = None,
        volumes: Path = Path("/Volumes"),
    ) -> "Workspace":
        """The workspace that this notebook or job runs in; its account of resources is prepared.

        Args:
            settings: the deployment's parameters.
            spark: the session.
            client: the workspace's services; by the SDK's own way if None.
            volumes: folder of the volumes.

        Raises:
            WorkspaceError: no login, or the catalog doesn't exist.
            ResourceStateError: the account can't be written.
        """
        from caspers_lib.workspace.state_stores import DeltaResourceStore

        client = client or workspace_client()
        lakehouse = SparkLakehouse.here(spark, settings, volumes)
        table = RESOURCES.name
        if lakehouse.catalog is not None:
            table = f"{lakehouse.catalog}.{table}"
        store = DeltaResourceStore(spark, client.config.host, settings.target, table)
        return cls.over(settings, client, lakehouse, store)

    @classmethod
    def over(
        cls,
        settings: Settings,
        client: "WorkspaceClient",
        lakehouse: Lakehouse,
        store: ResourceStore,
        *,
        patience: Patience | None = None,
        now: Callable[[], float] = time.time,
        mlflow: ModuleType | None = None,
        reach: "Callable[[WorkspaceClient, str, str], Database] | None" = None,
    ) -> "Workspace":
        """A workspace over parts that are there; the account of resources is prepared.

        Args:
            settings: the deployment's parameters.
            client: the workspace's services.
            lakehouse: Spark and the volumes.
            store: where the account is kept.
            patience: how long to wait for what the services make.
            now: the wall clock, UTC epoch seconds.
            mlflow: as for the class.
            reach: as for the class.
        """
        store.prepare()
        patience = patience or Patience()
        ledger = Ledger(client, store, lambda: datetime.fromtimestamp(now(), UTC), patience)
        return cls(
            settings=settings,
            client=client,
            lakehouse=lakehouse,
            ledger=ledger,
            patience=patience,
            now=now,
            mlflow=mlflow,
            reach=reach,
        )

    def full_name(self, *names: str) -> str:
        """A name in Unity Catalog, within the settings' catalog."""
        return ".".join((self.settings.catalog, *names))

    def needed(self, name: str, hint: str) -> str:
        """A setting that a task can't do without.

        Args:
            name: the setting's field.
            hint: where it comes from.

        Raises:
            SettingsError: it is empty.
        """
        value = str(getattr(self.settings, name))
        if not value:
            raise SettingsError(f"{name.upper()} is empty", hint=hint)
        return value


def workspace_client(profile: str | None = None) -> "WorkspaceClient":
    """A client of the workspace that the environment, a profile or the notebook names.

    Args:
        profile: profile of the Databricks configuration; the SDK's own way if None.

    Raises:
        WorkspaceError: there is no SDK, or no login.
    """
    try:
        from databricks.sdk import WorkspaceClient
    except ImportError as error:
        raise WorkspaceError(
            "The Databricks SDK is not installed.",
            hint="Install it with: pip install 'caspers_lib[databricks]'",
        ) from error
    try:
        return WorkspaceClient(profile=profile)
    except ValueError as error:
        raise WorkspaceError(
            f"No login to a Databricks workspace: {first_cause(error)}",
            hint="Log in: databricks auth login, or set DATABRICKS_HOST and DATABRICKS_TOKEN.",
        ) from error
