import pytest

from caspers_lib.errors import ReplayStateError, SettingsError
from caspers_lib.replay.clock import DAY, start_clock
from caspers_lib.replay.state import ReplayState, StateStore
from caspers_lib.runtime.demo_console import DemoControls, demo_status, seek_event_time

EPOCH = 1_704_067_200  # 2024-01-01
WALL = 1_773_576_000.0  # 2026-03-15 12:00
SHIFT = 1_773_532_800 - 70 * DAY - EPOCH  # day 70 falls on 2026-03-15


def state(**changes: object) -> ReplayState:
    clock = start_clock(WALL, epoch=EPOCH, start_day=70, speed=60)
    values: dict[str, object] = {
        "simulation_start": WALL,
        "epoch": EPOCH,
        "cycle_seconds": 90 * DAY,
        "shift_seconds": SHIFT,
        "clock": clock,
        "watermark": clock.virtual_time(WALL),
        "pending": None,
    }
    return ReplayState(**values | changes)  # type: ignore[arg-type]


def day_after(target: str) -> float:
    """The dataset day, of virtual time, to which a seek leads; before it, day 70.5."""
    return (seek_event_time(target)(state(), WALL).clock.virtual_time(WALL) - EPOCH) / DAY


@pytest.mark.parametrize(
    ("target", "day"),
    [
        ("75", 75.0),
        ("75.5", 75.5),
        ("2026-03-15T18:00", 70.75),
        ("2026-03-15T18:00+02:00", 70 + 16 / 24),
        ("2026-03-15", 70.0),
        ("+6h", 70.75),
        ("-12h", 70.0),
        ("+30d", 100.5),
    ],
)
def test_a_seek_leads_to_what_a_person_means(target: str, day: float) -> None:
    assert day_after(target) == pytest.approx(day)


@pytest.mark.parametrize("target", ["2026-01-03T00:00", "2027-01-01", "-80d"])
def test_a_seek_outside_names_the_times_that_the_page_shows(target: str) -> None:
    with pytest.raises(SettingsError, match="between 2026-01-04 00:00 and 2026-04-04 00:00 UTC"):
        day_after(target)


@pytest.mark.parametrize(
    "target", ["", "soon", "+", "-x", "+6", "nan", "inf", "-1", "91", "20260315", "+91d"]
)
def test_a_seek_to_nowhere_is_refused(target: str) -> None:
    with pytest.raises(SettingsError):
        day_after(target)


def test_the_controls_change_the_state_that_the_replay_reads(tmp_path: object) -> None:
    store = StateStore(tmp_path)  # type: ignore[arg-type]
    store.save(state())
    controls = DemoControls(store, lambda: WALL + 10)

    def told() -> tuple[bool, float | None]:
        status = demo_status(store.load(), (), {}, WALL)
        return status.paused, status.speed

    controls.pause()
    assert told() == (True, 60.0)
    controls.set_speed(300)
    assert told() == (True, 300.0)
    controls.resume()
    assert told() == (False, 300.0)
    controls.seek("75")
    found = store.load()
    assert found is not None
    assert found.clock.virtual_time(WALL + 10) == EPOCH + 75 * DAY


def test_the_controls_say_that_nothing_has_begun(tmp_path: object) -> None:
    with pytest.raises(ReplayStateError, match="No replay has begun"):
        DemoControls(StateStore(tmp_path)).pause()  # type: ignore[arg-type]


def test_the_status_tells_event_time_and_the_place_in_the_dataset() -> None:
    status = demo_status(state(), (), {}, WALL)
    assert str(status.virtual_time) == "2026-03-15 12:00:00+00:00"
    assert str(demo_status(state(), (), {}, WALL + 60).due) == "2026-03-15 13:00:00+00:00"
    assert status.place == "day 70 of 90"
    again = state(watermark=float(EPOCH + 95 * DAY))
    assert demo_status(again, (), {}, WALL).place == "day 5 of 90, loop 1"
    assert demo_status(None, (), {}, WALL).virtual_time is None
