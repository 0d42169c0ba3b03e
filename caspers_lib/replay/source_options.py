"""The options of the Spark data source `caspers_replay`, parsed and checked.

Spark hands options over as text under names without case.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from caspers_lib.errors import SettingsError
from caspers_lib.replay.chaos import NO_CHAOS, Chaos
from caspers_lib.replay.clock import DAY

__all__ = [
    "BatchOptions",
    "GivenStart",
    "RunningReplay",
    "StreamOptions",
    "batch_options",
    "dataset_path",
    "stream_options",
]

_SHARED = ("path", "rowsPerPartition", "state", "simulationStart", "startDay", "chaos")
_BATCH_ONLY = ("after", "until", "shift")
_STREAM_ONLY = ("speed", "maxEventsPerBatch")
_WITH_START_ONLY = ("startDay", "speed")

_ROWS_PER_PARTITION = 250_000
_START_DAY = 70
_SPEED = 60.0


@dataclass(frozen=True, slots=True)
class RunningReplay:
    """The clock of a replay whose state lies in a folder: what steers the replay steers this."""

    folder: Path


@dataclass(frozen=True, slots=True)
class GivenStart:
    """A clock that starts where the options say and runs at one speed for ever.

    Args:
        simulation_start: s, UTC epoch seconds.
        start_day: dataset day that falls on the day of s.
        speed: virtual seconds a wall-clock second.
    """

    simulation_start: float
    start_day: int
    speed: float


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What `spark.read` asks for.

    Args:
        rows_per_partition: events of a partition, about.
        clock: where p0 and the shift come from; None: neither is asked for.
        after: virtual seconds, not in the window; None: from the beginning.
        until: virtual seconds, the window's end; None: p0, or without a clock the first loop's end.
        shift: seconds from virtual to emitted time; None: the clock's, or 0 without a clock.
        chaos: what goes wrong on purpose.
    """

    rows_per_partition: int
    clock: RunningReplay | GivenStart | None
    after: float | None
    until: float | None
    shift: int | None
    chaos: Chaos = NO_CHAOS


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What `spark.readStream` asks for.

    Args:
        rows_per_partition: events of a partition, about.
        clock: where p(now) and the shift come from.
        max_events: the most events of a micro-batch; None: all that are due.
        chaos: what goes wrong on purpose.
    """

    rows_per_partition: int
    clock: RunningReplay | GivenStart
    max_events: int | None
    chaos: Chaos = NO_CHAOS


def dataset_path(options: Mapping[str, str]) -> Path:
    """The option `path`: the dataset's parquet file.

    Raises:
        SettingsError: there is none.
    """
    path = options.get("path")
    if not path:
        raise SettingsError(
            "The data source caspers_replay needs the option path: the dataset's events.parquet",
            hint='spark.read.format("caspers_replay").load("/Volumes/.../events.parquet")',
        )
    return Path(path)


def batch_options(options: Mapping[str, str], *, epoch: int) -> BatchOptions:
    """The options of a batch read.

    Args:
        options: as Spark gives them, names without case.
        epoch: virtual second at which the dataset's day 0 begins.

    Raises:
        SettingsError: an option is unknown, contradicts another one or has a bad value.
    """
    _refuse_unknown(options, (*_SHARED, *_BATCH_ONLY), "batch read")
    shift, clock = options.get("shift"), _clock(options)
    if shift is not None and clock is not None:
        raise SettingsError(
            "The option shift of caspers_replay is given beside a clock that has its own; "
            "give shift, state or simulationStart",
        )
    return BatchOptions(
        rows_per_partition=_whole(options, "rowsPerPartition", _ROWS_PER_PARTITION, least=1),
        clock=clock,
        after=_virtual_second(options, "after", epoch),
        until=_virtual_second(options, "until", epoch),
        shift=None if shift is None else _whole(options, "shift", 0),
        chaos=Chaos.parse(options.get("chaos") or ""),
    )


def stream_options(options: Mapping[str, str]) -> StreamOptions:
    """The options of a streaming read.

    Raises:
        SettingsError: an option is unknown, contradicts another one or has a bad value, or nothing
            says what the stream's clock is.
    """
    _refuse_unknown(options, (*_SHARED, *_STREAM_ONLY), "stream")
    clock = _clock(options)
    if clock is None:
        raise SettingsError(
            "A caspers_replay stream needs the option state (the folder of a replay's "
            "_replay_state.json) or simulationStart: a clock that began anew at every restart "
            "would play other events than the checkpoint knows",
        )
    capped = options.get("maxEventsPerBatch") is not None
    return StreamOptions(
        rows_per_partition=_whole(options, "rowsPerPartition", _ROWS_PER_PARTITION, least=1),
        clock=clock,
        max_events=_whole(options, "maxEventsPerBatch", 1, least=1) if capped else None,
        chaos=Chaos.parse(options.get("chaos") or ""),
    )


def _refuse_unknown(options: Mapping[str, str], allowed: tuple[str, ...], what: str) -> None:
    known = {name.lower() for name in allowed}
    unknown = [name for name in options if name.lower() not in known]
    if unknown:
        raise SettingsError(
            f"A caspers_replay {what} has no option {', '.join(sorted(unknown))}; "
            f"it has {', '.join(allowed)}",
        )


def _clock(options: Mapping[str, str]) -> RunningReplay | GivenStart | None:
    state, start = options.get("state"), options.get("simulationStart")
    if state is not None and start is not None:
        raise SettingsError(
            "The options state and simulationStart of caspers_replay exclude each other: "
            "the state has a simulation start of its own",
        )
    if start is None:
        orphans = [name for name in _WITH_START_ONLY if options.get(name) is not None]
        if orphans:
            raise SettingsError(
                f"The option {orphans[0]} of caspers_replay counts only with simulationStart",
            )
        return None if state is None else RunningReplay(Path(state))
    return GivenStart(
        simulation_start=_instant("simulationStart", start),
        start_day=_whole(options, "startDay", _START_DAY, least=0),
        speed=_speed(options),
    )


def _bad(name: str, value: str, allowed: str) -> SettingsError:
    return SettingsError(f"The option {name} of caspers_replay is {value!r}; it must be {allowed}")


def _whole(options: Mapping[str, str], name: str, default: int, *, least: int | None = None) -> int:
    text = options.get(name)
    if text is None:
        return default
    allowed = "a whole number" if least is None else f"a whole number of {least} or more"
    try:
        number = int(text)
    except ValueError as error:
        raise _bad(name, text, allowed) from error
    if least is not None and number < least:
        raise _bad(name, text, allowed)
    return number


def _speed(options: Mapping[str, str]) -> float:
    text = options.get("speed")
    if text is None:
        return _SPEED
    speed = _number(text)
    if speed is None or speed <= 0:
        raise _bad("speed", text, "a number of virtual seconds a second, above 0")
    return speed


def _virtual_second(options: Mapping[str, str], name: str, epoch: int) -> float | None:
    """A dataset day, which may lie past the first loop, or an ISO 8601 timestamp."""
    text = options.get(name)
    if text is None:
        return None
    day = _number(text)
    if day is not None:
        return epoch + day * DAY
    moment = _timestamp(text)
    if moment is None:
        raise _bad(name, text, "a dataset day (75.5) or an ISO 8601 timestamp of virtual time")
    return moment


def _instant(name: str, text: str) -> float:
    moment = _timestamp(text)
    if moment is None:
        raise _bad(name, text, "an ISO 8601 timestamp, UTC unless it says otherwise")
    return moment


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _timestamp(text: str) -> float | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
