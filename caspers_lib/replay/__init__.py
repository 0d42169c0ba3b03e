"""The replay: a dataset played as live events, steered like a tape.

The names below load what they need when they are first used: importing this package alone loads
neither Arrow nor DuckDB nor Spark.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caspers_lib.replay.callable_sink import CallableSink
    from caspers_lib.replay.chaos import Chaos
    from caspers_lib.replay.dataset import EventsFile
    from caspers_lib.replay.delta_sink import DeltaSink
    from caspers_lib.replay.engine import Replay, Tick, steer
    from caspers_lib.replay.pace import Pace
    from caspers_lib.replay.sample import sample_dataset
    from caspers_lib.replay.spark_source import register_replay_source
    from caspers_lib.replay.state import StateStore
    from caspers_lib.replay.volume_sink import VolumeSink

__all__ = [
    "CallableSink",
    "Chaos",
    "DeltaSink",
    "EventsFile",
    "Pace",
    "Replay",
    "StateStore",
    "Tick",
    "VolumeSink",
    "register_replay_source",
    "sample_dataset",
    "steer",
]

_MODULES = {
    "CallableSink": "callable_sink",
    "Chaos": "chaos",
    "DeltaSink": "delta_sink",
    "EventsFile": "dataset",
    "Pace": "pace",
    "Replay": "engine",
    "StateStore": "state",
    "Tick": "engine",
    "VolumeSink": "volume_sink",
    "register_replay_source": "spark_source",
    "sample_dataset": "sample",
    "steer": "engine",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - each name has a type of its own, see above
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
