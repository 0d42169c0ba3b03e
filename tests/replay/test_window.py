"""Windows against a model that counts out every event of every loop."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from caspers_lib.replay.window import LoopSlice, Window, loop_slices, seam_parts

EPOCH = 1_000
CYCLE = 50

# Times on the first second, around the cycle's end, and in a tail of more than two further cycles.
dataset_times = st.lists(st.integers(EPOCH, EPOCH + 3 * CYCLE), min_size=1, max_size=8)
moments = st.one_of(
    st.integers(EPOCH - 10, EPOCH + 9 * CYCLE).map(float),
    st.floats(EPOCH - 10, EPOCH + 9 * CYCLE),
)
starts = st.none() | moments

Played = Counter[tuple[int, int]]


def slices_of(window: Window, times: list[int]) -> list[LoopSlice]:
    return list(loop_slices(window, cycle_seconds=CYCLE, first_ts=min(times), last_ts=max(times)))


def parts_of(window: Window, times: list[int]) -> list[Window]:
    return list(seam_parts(window, cycle_seconds=CYCLE, first_ts=min(times), last_ts=max(times)))


def played(window: Window, times: list[int]) -> Played:
    """How often each (index of an event, loop) plays in the window's slices."""
    return Counter(
        (index, part.loop)
        for part in slices_of(window, times)
        for index, t in enumerate(times)
        if part.first <= t <= part.last
    )


def counted_out(window: Window, times: list[int]) -> Played:
    """The contract's own words: v = t + L * C, after < v <= until."""
    return Counter(
        (index, loop)
        for loop in range(20)
        for index, t in enumerate(times)
        if (window.after is None or window.after < t + loop * CYCLE)
        and t + loop * CYCLE <= window.until
    )


@given(dataset_times, starts, moments)
@example([EPOCH], None, float(EPOCH))
@example([EPOCH], float(EPOCH), EPOCH + CYCLE + 0.0)
@example([EPOCH, EPOCH + 3 * CYCLE], EPOCH + 2.5 * CYCLE, EPOCH + 3.0 * CYCLE)
def test_a_window_holds_the_events_that_the_definition_counts(
    times: list[int], after: float | None, until: float
) -> None:
    window = Window(after, until)
    assert played(window, times) == counted_out(window, times)


@given(dataset_times, starts, st.lists(moments, min_size=1, max_size=10))
def test_r7_any_cutting_into_runs_plays_every_event_once(
    times: list[int], start: float | None, cuts: list[float]
) -> None:
    until = max(cuts)
    ends = sorted(cut for cut in cuts if start is None or cut >= start)
    in_runs: Played = Counter()
    for after, end in zip([start, *ends], ends, strict=False):
        in_runs += played(Window(after, end), times)
    assert in_runs == played(Window(start, until), times)
    assert set(in_runs.values()) <= {1}


@given(dataset_times, starts, moments)
def test_slices_are_one_a_loop_in_order_and_inside_the_dataset(
    times: list[int], after: float | None, until: float
) -> None:
    slices = slices_of(Window(after, until), times)
    assert all(a.loop < b.loop for a, b in pairwise(slices))
    assert all(min(times) <= s.first <= s.last <= max(times) for s in slices)


@pytest.mark.parametrize("loop", [0, 1, 7])
def test_r7_the_first_second_plays_in_every_loop(loop: int) -> None:
    second = EPOCH + loop * CYCLE
    times = [EPOCH, EPOCH + CYCLE - 1]
    first = LoopSlice(loop, EPOCH, EPOCH)
    assert slices_of(Window(second - 0.5, second), times) == [first]
    assert slices_of(Window(second - 0.5, second + 0.5), times) == [first]
    assert slices_of(Window(float(second), second + 0.5), times) == []


def test_r7_the_tail_plays_beside_the_next_loops_beginning() -> None:
    times = [EPOCH, EPOCH + CYCLE + 5]
    seam = EPOCH + CYCLE
    assert slices_of(Window(seam - 1.0, seam + 5.0), times) == [
        LoopSlice(0, EPOCH + CYCLE, EPOCH + CYCLE + 5),
        LoopSlice(1, EPOCH, EPOCH + 5),
    ]


@given(dataset_times, moments, st.floats(0, 10))
def test_a_window_in_which_no_time_passes_holds_nothing(
    times: list[int], after: float, back: float
) -> None:
    window = Window(after, after - back)
    assert window.is_empty
    assert slices_of(window, times) == []


def test_the_first_window_is_never_empty_and_an_ordinary_one_only_without_time() -> None:
    assert not Window(None, 0.0).is_empty
    assert not Window(0.0, 1e-6).is_empty


def in_time_order(window: Window, times: list[int]) -> list[tuple[int, int, int]]:
    return sorted((times[i] + loop * CYCLE, i, loop) for i, loop in played(window, times))


@given(dataset_times, starts, moments)
def test_the_parts_between_seams_play_the_window_in_its_order(
    times: list[int], after: float | None, until: float
) -> None:
    window = Window(after, until)
    parts = parts_of(window, times)
    in_parts = [event for part in parts for event in in_time_order(part, times)]
    assert in_parts == in_time_order(window, times)
    assert all(a.until == b.after for a, b in pairwise(parts))
    if not window.is_empty:
        assert (parts[0].after, parts[-1].until) == (after, until)


@given(dataset_times, starts, moments)
def test_a_part_between_seams_merges_loops_only_where_they_overlap(
    times: list[int], after: float | None, until: float
) -> None:
    for part in parts_of(Window(after, until), times):
        slices = slices_of(part, times)
        spans = {(s.first + s.loop * CYCLE, s.last + s.loop * CYCLE) for s in slices}
        assert len(spans) <= 1
