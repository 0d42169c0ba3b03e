"""The databases among an app's resources: their names, their rows, and how the list is changed.

Contract: DESIGN section 9. An app has one list of resources, which several tasks and other people
change: it is read right before it is written, after the change under way has ended.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from caspers_lib.errors import WorkspaceError
from caspers_lib.workspace_calls import Patience, asked, found, is_conflict

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.apps import App, AppResource, AppUpdateUpdateStatus

__all__ = [
    "COMPLAINTS_DATABASE",
    "REFUNDS_DATABASE",
    "attach_resource",
    "detach_resource",
    "look_resource",
    "resource_row",
]

REFUNDS_DATABASE = "postgres"
"""The refunds' database among an app's resources."""

COMPLAINTS_DATABASE = "complaints"
"""The complaints' database among them."""

# The platform's PG* variables speak of the first.
_ORDER = (REFUNDS_DATABASE, COMPLAINTS_DATABASE)
_ENDED = frozenset({"SUCCEEDED", "FAILED"})


def resource_row(app: str, resource: str) -> str:
    """The name under which a database of an app is on record.

    Args:
        app: the app's name.
        resource: the database's name among its resources.
    """
    return app if resource == REFUNDS_DATABASE else f"{app}/{resource}"


def look_resource(client: "WorkspaceClient", row: str) -> "AppResource | None":
    """A database of an app, or None if the app doesn't have it.

    Args:
        client: the workspace.
        row: its name on record.

    Raises:
        WorkspaceError: the app can't be read.
    """
    name, resource = _parts(row)
    app = found(client.apps.get, name)
    there = app.resources or [] if app else []
    return next((each for each in there if each.name == resource), None)


def attach_resource(
    client: "WorkspaceClient", name: str, wanted: "AppResource", patience: Patience
) -> None:
    """Give an app a database, in place of one of that name; its other resources stay.

    Args:
        client: the workspace.
        name: the app.
        wanted: the database.
        patience: how long to wait for the change before and for this one.

    Raises:
        WorkspaceError: there is no such app, or it did not get it.
    """
    what = f"The app {name} did not get its database"

    def changed(there: Iterable["AppResource"]) -> list["AppResource"]:
        return _in_order([*(each for each in there if each.name != wanted.name), wanted])

    if not _change(client, name, what, changed, patience):
        raise WorkspaceError(
            f"There is no app {name}.", hint="Deploy examples/bundle, which declares it."
        )


def detach_resource(client: "WorkspaceClient", row: str, patience: Patience) -> None:
    """Take a database from an app; one that is gone has none.

    Args:
        client: the workspace.
        row: its name on record.
        patience: how long to wait for the change before and for this one.

    Raises:
        WorkspaceError: the app has it still.
    """
    name, resource = _parts(row)

    def changed(there: Iterable["AppResource"]) -> list["AppResource"]:
        return [each for each in there if each.name != resource]

    _change(client, name, f"The app {name} did not give its database back", changed, patience)


def _parts(row: str) -> tuple[str, str]:
    app, _, resource = row.partition("/")
    return app, resource or REFUNDS_DATABASE


def _in_order(resources: Iterable["AppResource"]) -> list["AppResource"]:
    """The same, ours first."""
    places = {name: place for place, name in enumerate(_ORDER)}
    return sorted(resources, key=lambda each: places.get(each.name, len(places)))


def _change(
    client: "WorkspaceClient",
    name: str,
    what: str,
    changed: Callable[[Iterable["AppResource"]], list["AppResource"]],
    patience: Patience,
) -> bool:
    """Change an app's list of resources and wait for it; False if there is no such app."""
    apps = client.apps

    def begun() -> bool | None:
        # A change of somebody else, or one that outlived its caller: a second would be refused.
        last = found(apps.get_update, name)
        if last and _state(last.status) == "IN_PROGRESS":
            return None
        app = found(apps.get, name)
        return False if app is None else _posted(client, app, what, changed)

    def ended() -> "AppUpdateUpdateStatus | None":
        status = asked(what, lambda: apps.get_update(name)).status
        return status if _state(status) in _ENDED else None

    if not patience.starts().until(what, begun):
        return False
    status = patience.starts().until(what, ended)
    if _state(status) == "FAILED":
        raise WorkspaceError(
            f"{what}: {status.message}", hint="The app's page in the workspace may say more."
        )
    return True


def _posted(
    client: "WorkspaceClient",
    app: "App",
    what: str,
    changed: Callable[[Iterable["AppResource"]], list["AppResource"]],
) -> bool | None:
    """None if another change has begun since the app was read."""
    from databricks.sdk.service.apps import App

    wanted = App(name=app.name, resources=changed(app.resources or []))
    try:
        asked(what, lambda: client.apps.create_update(app.name, "resources", app=wanted))
    except WorkspaceError as error:
        if isinstance(error.__cause__, Exception) and is_conflict(error.__cause__):
            return None
        raise
    return True


def _state(status: "AppUpdateUpdateStatus | None") -> str:
    return status.state.value if status and status.state else ""
