"""The replay on one machine: what is played, how, and where under ROOT the events go.

Needs neither Spark nor Postgres.
"""

from dataclasses import dataclass, field
from pathlib import Path

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.replay.chaos import Chaos
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.engine import Replay
from caspers_lib.replay.pace import Pace
from caspers_lib.replay.state import StateStore
from caspers_lib.replay.volume_sink import VolumeSink
from caspers_lib.runtime.local_root import LocalRoot

__all__ = ["ReplayOptions", "local_replay"]


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How the replay is asked to write.

    Args:
        speed: a speed that was asked for; None keeps what the replay has.
        pace: how fast it may write.
        chaos: what is made dirty on purpose; None keeps what the replay was begun with.
        cycle_days: length of a loop that is asked for; None keeps the one there is.
    """

    speed: float | None = None
    pace: Pace = field(default_factory=Pace)
    chaos: Chaos | None = None
    cycle_days: int | None = None


def local_replay(
    root: LocalRoot, dataset: Path, options: ReplayOptions, domain: Domain = GHOST_KITCHEN
) -> Replay:
    """The replay of a dataset into the volume of ROOT.

    Args:
        root: where all state lies.
        dataset: the events file to replay.
        options: how the replay is asked to write.
        domain: the business.

    Raises:
        DatasetError: the dataset is missing or not fitting.
        ReplayStateError: the state can't be read.
    """
    store = StateStore(root.replay_state)
    state, settings = store.load(), root.settings
    asked = settings.model_fields_set
    events = EventsFile.open(
        dataset,
        domain,
        cycle_days=options.cycle_days,
        begun_cycle=state.cycle_seconds if state else None,
    )
    return Replay(
        dataset=events,
        sink=VolumeSink(root.events, layout=settings.events_layout),
        store=store,
        start_day=settings.start_day if "start_day" in asked or state is None else None,
        speed=options.speed,
        speed_setting=(
            settings.speed_multiplier if "speed_multiplier" in asked or state is None else None
        ),
        domain=domain,
        chaos=options.chaos,
        pace=options.pace,
        scratch=root.run,
    )
