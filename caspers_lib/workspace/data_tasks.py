"""The tasks that bring data: the dataset and its replay, and the declarative pipeline.

Each may be called again: what is there already is kept.
"""

from typing import TYPE_CHECKING

from caspers_lib.errors import (
    ReplayLockedError,
    ReplayStateError,
    SettingsError,
    WorkspaceError,
)
from caspers_lib.medallion.registration import table_names
from caspers_lib.replay.clock import utc_text
from caspers_lib.replay.engine import steer
from caspers_lib.replay.steering import Steering, course_line, pause, resume, seek, set_speed
from caspers_lib.workspace.context import TaskOutcome, Workspace
from caspers_lib.workspace.declared import declared_resources
from caspers_lib.workspace.ledger import Wanted
from caspers_lib.workspace.schedules import pipeline_schedule, schedule
from caspers_lib.workspace_calls import asked

if TYPE_CHECKING:
    from databricks.sdk.service.pipelines import GetPipelineResponse

__all__ = ["canonical_data", "replay_control", "replay_tick", "spark_declarative_pipeline"]

_ACTIVE = {"QUEUED", "CREATED", "WAITING_FOR_RESOURCES", "INITIALIZING", "RESETTING",
           "SETTING_UP_TABLES", "RUNNING", "STOPPING"}  # fmt: skip
_FAILED = {"FAILED", "CANCELED"}


def canonical_data(workspace: Workspace) -> TaskOutcome:
    """The dataset, its dimension tables, every event up to now, and the schedule of the replay.

    What the bundle made goes on record first.

    Args:
        workspace: where.

    Raises:
        WorkspaceError: a table could not be made.
        DatasetError, ReplayStateError: the replay can't go on.
    """
    settings, lakehouse, ledger = workspace.settings, workspace.lakehouse, workspace.ledger
    ledger.record_declared(
        (place.partition(".")[0].removesuffix("s"), name, place)
        for place, name in declared_resources(settings).items()
    )
    lakehouse.write_dataset()
    made = ledger.ensure_all([_dimension(workspace, name) for name in lakehouse.dimensions])
    events = _ticked(workspace)
    title = "Canonical Data Replay"
    made += ledger.ensure_all(schedule(workspace, "replay", title, settings.schedule_minutes))
    return TaskOutcome(task="Canonical_Data", done=f"{events:,} events written", resources=made)


def replay_tick(workspace: Workspace) -> TaskOutcome:
    """The events since the last run; nothing before `canonical_data` has run.

    Args:
        workspace: where.

    Raises:
        WorkspaceError: another run writes events all the time.
        DatasetError, ReplayStateError: the replay can't go on.
    """
    if not workspace.lakehouse.has_dataset():
        return TaskOutcome(task="Replay", done="waits for Canonical_Data: there is no dataset yet")
    return TaskOutcome(task="Replay", done=f"{_ticked(workspace):,} events written")


def _ticked(workspace: Workspace) -> int:
    """How many events were written, once no other run writes any."""

    def tick() -> int | None:
        try:
            return workspace.lakehouse.tick(workspace.now())
        except ReplayLockedError:
            return None

    return workspace.patience.starts().until("Another run writes events: it did not end", tick)


def replay_control(workspace: Workspace, command: str, value: str = "") -> TaskOutcome:
    """Say where the replay stands, or change its course from now on.

    Args:
        workspace: where.
        command: status, pause, resume, speed or seek.
        value: for speed, virtual seconds a wall-clock second; for seek, a dataset day (`75`) or a
            timestamp (`2024-03-16T12:30`); empty for the others.

    Raises:
        SettingsError: the command is unknown, or its value is not allowed.
        ReplayStateError: no replay has begun, or its state can't be read.
        ReplayLockedError: a run writes for more than a minute.
    """
    change = _steering(command, value)
    store, now = workspace.lakehouse.replay_state, workspace.now()
    state = store.load()
    if state is None:
        raise ReplayStateError(
            f"No replay has begun in {store.folder}", hint="run the initializer, which begins it"
        )
    if change is not None:
        state = steer(store, change, now)
    reached = "nothing yet" if state.written is None else (
        f"events up to {utc_text(state.written + state.shift_seconds)} UTC"
    )  # fmt: skip
    return TaskOutcome(task="Replay_Control", done=f"{course_line(state, now)}; {reached} written")


def _steering(command: str, value: str) -> Steering | None:
    """The change that a command asks for; None for status."""
    with_value = {"speed": "virtual seconds a second", "seek": "a dataset day or a timestamp"}
    plain = {"status": None, "pause": pause, "resume": resume}
    if command in plain:
        if value:
            raise SettingsError(
                f"VALUE is {value!r}: {command} takes none", hint="leave VALUE empty"
            )
        return plain[command]
    if command not in with_value:
        raise SettingsError(
            f"COMMAND is {command!r}; allowed are {', '.join((*plain, *with_value))}",
            hint="set it by job parameter or in the notebook's field",
        )
    if not value:
        raise SettingsError(
            f"VALUE is empty: {command} needs one", hint=f"it is {with_value[command]}"
        )
    if command == "seek":
        return seek(value)
    try:
        return set_speed(float(value))
    except ValueError as error:
        raise SettingsError(
            f"VALUE is {value!r}: a speed is a number above 0", hint="60 plays an hour in a minute"
        ) from error


def spark_declarative_pipeline(workspace: Workspace) -> TaskOutcome:
    """The tables of the bundle's pipeline: an update is started, if none runs, and waited for.

    Then the next ones are scheduled. A continuous pipeline is waited for until its tables are
    there.

    Args:
        workspace: where.

    Raises:
        SettingsError: no pipeline is named.
        WorkspaceError: there is none of that id, its update failed, or took too long.
    """
    pipeline_id = workspace.needed("pipeline_id", "the bundle gives it: deploy examples/bundle")
    client, what = workspace.client, f"The pipeline {pipeline_id}"
    pipeline = asked(f"{what} can't be read", lambda: client.pipelines.get(pipeline_id))
    running = _running_update(pipeline)
    update = running or asked(
        f"{what} was not started", lambda: client.pipelines.start_update(pipeline_id).update_id
    )
    continuous = bool(pipeline.spec and pipeline.spec.continuous)

    def looked() -> str | None:
        answer = asked(
            f"{what}: its update can't be read",
            lambda: client.pipelines.get_update(pipeline_id, update or "").update,
        )
        state = answer.state.value if answer and answer.state else ""
        if state in _FAILED:
            raise WorkspaceError(
                f"{what}: its update {update} ended as {state}.",
                hint="The pipeline's event log says why; this task can be run again.",
            )
        if continuous and state == "RUNNING" and _tables_there(workspace):
            return "running"
        return "up to date" if state == "COMPLETED" else None

    state = workspace.patience.starts().until(f"{what} is not up to date", looked)
    return TaskOutcome(
        task="Spark_Declarative_Pipeline",
        done=f"{state}, update {update} {'ran already' if running else 'started'}",
        resources=workspace.ledger.ensure_all([pipeline_schedule(workspace)]),
    )


def _dimension(workspace: Workspace, name: str) -> Wanted:
    return Wanted(
        kind="table",
        name=workspace.full_name(workspace.settings.simulator_schema, name),
        create=lambda: workspace.lakehouse.write_dimension(name),
    )


def _running_update(pipeline: "GetPipelineResponse") -> str | None:
    """The id of the newest update, if it is under way."""
    newest = next(iter(pipeline.latest_updates or []), None)
    if newest is None or newest.state is None or newest.state.value not in _ACTIVE:
        return None
    return newest.update_id


def _tables_there(workspace: Workspace) -> bool:
    names = [workspace.full_name("lakeflow", table) for table in table_names()]
    return all(
        asked(
            f"The table {name} can't be read",
            lambda name=name: workspace.client.tables.exists(name),  # type: ignore[misc]
        ).table_exists
        for name in names
    )
