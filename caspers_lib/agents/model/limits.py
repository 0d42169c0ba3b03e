"""What holds a model's use within bounds: a token bucket, a circuit breaker, a budget.

Nothing here waits, reads a file or knows HTTP: the classes say what is allowed now, and a clock is
a parameter. One thread uses them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from caspers_lib.agents.model.settings import Limits
from caspers_lib.errors import ModelBudgetError

__all__ = ["Admission", "Budget", "CircuitBreaker", "Reservation", "Spent", "TokenBucket"]

DAY_SECONDS = 86_400
_HAIR = 1e-6  # of a call

_Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent, or what a call may spend at most.

    Args:
        calls: requests sent.
        input_tokens: tokens sent.
        output_tokens: tokens received.
        usd: their price.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: Decimal = Decimal(0)

    @property
    def tokens(self) -> int:
        """Tokens of input and output together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Spent") -> "Spent":
        """The sum of two."""
        return Spent(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.usd + other.usd,
        )


_NOTHING = Spent()


class TokenBucket:
    """How soon a call may start: so many a minute, a second's worth of them at once.

    In any minute at most `per_minute` calls start, and the second's worth on top.

    Args:
        per_minute: calls a minute; None is unlimited.
        clock: seconds that never go back.
    """

    def __init__(self, per_minute: float | None, *, clock: _Clock) -> None:
        self._rate = None if per_minute is None else per_minute / 60
        self._size = max(1.0, self._rate or 0.0)
        self._clock = clock
        self._filled = self._size
        self._at = self._paused_until = clock()

    def wait_s(self) -> float:
        """Seconds until the next call may start; 0 for at once."""
        now = self._clock()
        pause = max(0.0, self._paused_until - now)
        if self._rate is None:
            return pause
        self._filled = min(self._size, self._filled + (now - self._at) * self._rate)
        self._at = now
        missing = 1 - self._filled
        # A sleep may end a hair too early; another one would be too short for any clock.
        return pause if missing < _HAIR else max(pause, missing / self._rate)

    def take(self) -> None:
        """Start a call; `wait_s` has just said 0."""
        self._filled -= 1

    def pause(self, seconds: float) -> None:
        """Start no call for some seconds, since the server asks for that."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)


@dataclass(frozen=True, slots=True)
class Admission:
    """Leave to make one call, to be given back with what it showed.

    Args:
        period: counts how often the breaker has opened; a later one ignores this call.
        is_probe: whether this is the one call that tries after a while.
    """

    period: int
    is_probe: bool


class CircuitBreaker:
    """Whether a server is worth asking: not for a while after many failures in a row.

    Args:
        failures: so many failures in a row open it.
        reset_s: seconds until one call may try; if it fails, the while begins anew.
        clock: seconds that never go back.
    """

    def __init__(self, failures: int, reset_s: float, *, clock: _Clock) -> None:
        self._limit = failures
        self._reset_s = reset_s
        self._clock = clock
        self._failures = 0
        self._period = 0
        self._open_until: float | None = None
        self._is_probing = False
        self._reason = ""

    @property
    def reason(self) -> str:
        """Why it opened the last time."""
        return self._reason

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        """Closed lets every call through, open none, half-open one."""
        if self._open_until is None:
            return "closed"
        return "open" if self._clock() < self._open_until else "half_open"

    @property
    def is_open(self) -> bool:
        """Whether a call would be turned away now."""
        return self.state == "open" or self._is_probing

    def admit(self) -> Admission | None:
        """Leave to call now, or None."""
        if self.is_open:
            return None
        self._is_probing = self.state == "half_open"
        return Admission(self._period, self._is_probing)

    def report(self, admission: Admission, healthy: bool | None) -> None:
        """Give an admission back.

        Args:
            admission: what `admit` gave.
            healthy: whether the server works, as far as the call showed; None if it showed
                nothing.
        """
        if admission.period != self._period:
            return
        if admission.is_probe:
            self._is_probing = False
        if healthy:
            self._failures, self._open_until = 0, None
        elif healthy is False:
            self._failures += 1
            if admission.is_probe or self._failures >= self._limit:
                self.trip(self._reset_s, "it failed too often in a row")

    def trip(self, seconds: float, reason: str) -> None:
        """Open it for some seconds, for a reason that is told to whoever is turned away."""
        self._reason = reason
        until = self._clock() + seconds
        self._open_until = until if self._open_until is None else max(until, self._open_until)
        self._period += 1
        self._failures, self._is_probing = 0, False


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a call in flight may spend at most.

    Args:
        estimate: the most that is expected.
    """

    estimate: Spent


class Budget:
    """What may still be spent in this batch and on this UTC day.

    A call reserves what it may cost before it is sent and settles what it did cost, so that calls
    at the same time can't overshoot together. Days are told by the clock: at midnight UTC the
    day's account begins anew.

    Args:
        batch: limits of this batch.
        day: limits of a UTC day.
        clock: UTC epoch seconds.
        spent_today: what was spent before on the day that it is now.
    """

    def __init__(
        self, batch: Limits, day: Limits, *, clock: _Clock, spent_today: Spent = _NOTHING
    ) -> None:
        self._batch = batch
        self._day = day
        self._clock = clock
        self._reserved = self._spent = Spent()
        self._today, self._spent_today = self._day_now(), spent_today

    @property
    def spent(self) -> Spent:
        """What this batch has spent so far."""
        return self._spent

    def reserve(self, estimate: Spent) -> Reservation | None:
        """Set aside what a call may spend.

        Args:
            estimate: the most that is expected.

        Returns:
            To be settled; None if it doesn't fit beside the calls in flight, though it may when
            one of them has cost less than it reserved.

        Raises:
            ModelBudgetError: it doesn't fit, whatever the calls in flight will cost.
        """
        self._begin_day()
        fits_later = True
        for name, limits, spent in (
            ("batch", self._batch, self._spent),
            ("day", self._day, self._spent_today),
        ):
            # A call in flight is never taken back, but its tokens and dollars may turn out fewer.
            flying = Spent(calls=self._reserved.calls)
            if over := _over(limits, spent + flying, estimate):
                raise ModelBudgetError(f"The {name}'s budget of {over}")
            fits_later &= not _over(limits, spent + self._reserved, estimate)
        if not fits_later:
            return None
        self._reserved += estimate
        return Reservation(estimate)

    def settle(self, reservation: Reservation, spent: Spent) -> None:
        """Replace a reservation by what was really spent.

        Args:
            reservation: what `reserve` gave; settled once.
            spent: what the call cost, nothing if it was never sent.
        """
        estimate, held = reservation.estimate, self._reserved
        self._reserved = Spent(
            held.calls - estimate.calls,
            held.input_tokens - estimate.input_tokens,
            held.output_tokens - estimate.output_tokens,
            held.usd - estimate.usd,
        )
        self._begin_day()
        self._spent += spent
        self._spent_today += spent

    def _begin_day(self) -> None:
        today = self._day_now()
        if today != self._today:
            self._today, self._spent_today = today, Spent()

    def _day_now(self) -> int:
        return math.floor(self._clock() / DAY_SECONDS)


def _over(limits: Limits, spent: Spent, more: Spent) -> str:
    """The first limit that would be passed, in words; empty if none."""
    amounts = (
        (limits.calls, spent.calls, more.calls, "calls"),
        (limits.tokens, spent.tokens, more.tokens, "tokens"),
        (limits.usd, spent.usd, more.usd, "USD"),
    )
    for limit, used, needed, unit in amounts:
        if limit is not None and used + needed > limit:
            return (
                f"{_plain(limit)} {unit} leaves no room for another call:"
                f" {_plain(used)} spent, up to {_plain(needed)} needed"
            )
    return ""


def _plain(amount: int | Decimal) -> str:
    return f"{amount:f}" if isinstance(amount, Decimal) else str(amount)
