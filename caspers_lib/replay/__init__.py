"""The replay: a dataset played as live events, steered like a tape.

Importing this package alone loads neither Arrow nor DuckDB nor Spark: a name loads what it needs
when it is first used.
"""

from typing import TYPE_CHECKING

from caspers_lib._lazy import lazy_names

if TYPE_CHECKING:
    from caspers_lib.replay.callable_sink import CallableSink
    from caspers_lib.replay.chaos import Chaos
    from caspers_lib.replay.dataset import EventsFile
    from caspers_lib.replay.delta_sink import DeltaSink
    from caspers_lib.replay.engine import Replay, Tick, steer
    from caspers_lib.replay.event import event_json, event_of_row
    from caspers_lib.replay.generator import generate_dataset
    from caspers_lib.replay.pace import Pace
    from caspers_lib.replay.sample import sample_dataset
    from caspers_lib.replay.spark_source import register_replay_source
    from caspers_lib.replay.state import ReplayState, StateStore
    from caspers_lib.replay.steering import pause, reset, resume, seek, set_speed, step
    from caspers_lib.replay.volume_sink import VolumeSink
    from caspers_lib.replay.window import LoopSlice, Window, loop_slices

__all__ = [
    "CallableSink",
    "Chaos",
    "DeltaSink",
    "EventsFile",
    "LoopSlice",
    "Pace",
    "Replay",
    "ReplayState",
    "StateStore",
    "Tick",
    "VolumeSink",
    "Window",
    "event_json",
    "event_of_row",
    "generate_dataset",
    "loop_slices",
    "pause",
    "register_replay_source",
    "reset",
    "resume",
    "sample_dataset",
    "seek",
    "set_speed",
    "steer",
    "step",
]

__getattr__ = lazy_names(
    __name__,
    {
        "CallableSink": "callable_sink",
        "Chaos": "chaos",
        "DeltaSink": "delta_sink",
        "EventsFile": "dataset",
        "LoopSlice": "window",
        "Pace": "pace",
        "Replay": "engine",
        "ReplayState": "state",
        "StateStore": "state",
        "Tick": "engine",
        "VolumeSink": "volume_sink",
        "Window": "window",
        "event_json": "event",
        "event_of_row": "event",
        "generate_dataset": "generator",
        "loop_slices": "window",
        "pause": "steering",
        "register_replay_source": "spark_source",
        "reset": "steering",
        "resume": "steering",
        "sample_dataset": "sample",
        "seek": "steering",
        "set_speed": "steering",
        "steer": "engine",
        "step": "steering",
    },
)
