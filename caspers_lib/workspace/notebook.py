"""A notebook's widgets as settings, and the removal as a notebook's one call.

Job parameters and widgets come before the environment.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from caspers_lib.errors import SettingsError
from caspers_lib.runtime.settings import Settings, load_settings, parameters_of
from caspers_lib.workspace.context import Workspace
from caspers_lib.workspace.home import remove_home
from caspers_lib.workspace.removal import Removal, remove_resources

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["RemovalOutcome", "destroy_workspace", "settings_from_widgets"]


class Widgets(Protocol):
    """The part of `dbutils.widgets` that is used."""

    def text(self, name: str, defaultValue: str, label: str) -> None:
        """Make a field, unless there is one."""

    def get(self, name: str) -> str:
        """What it holds."""


class NotebookUtilities(Protocol):
    """The part of `dbutils` that is used."""

    @property
    def widgets(self) -> Widgets:
        """The notebook's fields."""


@dataclass(frozen=True, slots=True)
class RemovalOutcome:
    """What a removal did, and what became of the account itself.

    Args:
        removal: the resources.
        home_left: why the account is still there; None if it is gone.
    """

    removal: Removal
    home_left: str | None

    def frame(self, spark: "SparkSession") -> "DataFrame":
        """The outcome as a table to display: what, name, became.

        Args:
            spark: the session.
        """
        removal = self.removal
        rows = [(r.kind, r.name, "removed") for r in removal.removed]
        rows += [(x.resource.kind, x.resource.name, f"left: {x.why}") for x in removal.left]
        rows += [(r.kind, r.name, "kept: it was there before") for r in removal.kept]
        rows += [(r.kind, r.name, "the bundle's: bundle destroy") for r in removal.declared]
        rows.append(("account", "_internal_state", f"left: {self.home_left}" if self.home_left
                     else "removed"))  # fmt: skip
        return spark.createDataFrame(rows, "what STRING, name STRING, became STRING")


def settings_from_widgets(dbutils: NotebookUtilities) -> Settings:
    """The settings, with a field in the notebook for each; a job's parameters fill the fields.

    A field that nobody filled shows what holds without it. One that somebody emptied is refused
    where something must stand: its default could name another deployment.

    Args:
        dbutils: the notebook's utilities.

    Raises:
        SettingsError: a value is not allowed, or the environment names a parameter that has no
            effect in a workspace.
    """
    unfilled, defaults = load_settings(runtime="workspace"), Settings()
    given: dict[str, str] = {}
    for field in parameters_of("workspace"):
        name = field.upper()
        dbutils.widgets.text(name, str(getattr(unfilled, field)), name)
        given[name] = dbutils.widgets.get(name).strip()
        default = str(getattr(defaults, field))
        if default and not given[name]:
            raise SettingsError(
                f"{name} is empty", hint=f"write it into its field; the default is {default}"
            )
    return load_settings(parameters=given, runtime="workspace")


def destroy_workspace(workspace: Workspace) -> RemovalOutcome:
    """Delete everything that the tasks made for this target, and the account of it at the end.

    Args:
        workspace: where.

    Raises:
        WorkspaceError, ResourceStateError: the account can't be read or written.
    """
    removal = remove_resources(workspace.ledger, workspace.patience)
    left: str | None = f"{len(removal.left)} resources are left"
    if removal.is_complete:
        left = remove_home(workspace.client, workspace.settings.catalog, workspace.ledger.store)
    return RemovalOutcome(removal, left)
