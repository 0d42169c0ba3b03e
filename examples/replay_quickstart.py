"""Live events in a folder, on any machine: `pip install` the wheel, then run this file."""

import time
from pathlib import Path

from caspers_lib.replay import EventsFile, Replay, StateStore, VolumeSink, sample_dataset

replay = Replay(
    dataset=EventsFile.open(sample_dataset()),  # two days of orders, bundled
    sink=VolumeSink(Path("events")),
    store=StateStore(Path("state")),
    start_day=1,  # this dataset day is today
    speed=600.0,  # ten minutes a second
)
for _ in range(4):
    tick = replay.tick(time.time())
    print(f"{tick.events:,} new events in the folder events/")
    time.sleep(1)
