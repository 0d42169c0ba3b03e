"""Chaos: what goes wrong with events on purpose, how often, and by how much.

What happens to an event depends on the seed and its `event_id` alone, never on how time is cut into
windows. At most one kind happens to an event, so that a kind's rate is its share of all events; the
rates add up to 1 at most.

late                arrives up to `late_minutes` after its time; `ts` is unchanged
out_of_order        arrives up to `out_of_order_seconds` after its time, so that neighbours swap
duplicate           arrives in time and once more, the same bytes, up to `duplicate_minutes` later
dropped             never arrives
corrupt_json        its JSON text (the line, or the body of the form `columns`) is cut
unknown_event_type  its type has a name that the domain does not know
new_field           its body, or the event, has one more field
wrong_type          `sequence`, a number, or `body`, an object, is a JSON string instead
clock_skew          its `ts` is off by up to `clock_skew_seconds`, either way; it arrives in time
"""

import math
from dataclasses import dataclass, fields
from typing import ClassVar

from caspers_lib.errors import SettingsError

__all__ = ["NO_CHAOS", "Chaos"]

_HINT = "for example late=0.02,duplicate=0.01,seed=7"
_DAY_MINUTES = 1_440


@dataclass(frozen=True, slots=True, kw_only=True)
class Chaos:
    """Rates (0 to 1, a share of all events) and bounds of what goes wrong; all off by default.

    Args:
        late: rate of events that arrive minutes or hours late.
        out_of_order: rate of events that arrive seconds late.
        duplicate: rate of events that are delivered twice.
        dropped: rate of events that are never delivered.
        corrupt_json: rate of events whose JSON text is cut.
        unknown_event_type: rate of events with a type that nobody knows.
        new_field: rate of events with a field more.
        wrong_type: rate of events with a field of another type.
        clock_skew: rate of events with a wrong `ts`.
        seed: another seed chooses other events.
        late_minutes: the longest delay of a late event, virtual minutes; the shortest is one.
        out_of_order_seconds: the longest delay of an event out of order, virtual seconds.
        duplicate_minutes: the longest time to the second delivery, virtual minutes.
        clock_skew_seconds: how far a skewed `ts` is off at most, seconds.

    Raises:
        SettingsError: a value, or the sum of the rates, is not allowed.
    """

    late: float = 0.0
    out_of_order: float = 0.0
    duplicate: float = 0.0
    dropped: float = 0.0
    corrupt_json: float = 0.0
    unknown_event_type: float = 0.0
    new_field: float = 0.0
    wrong_type: float = 0.0
    clock_skew: float = 0.0
    seed: int = 0
    late_minutes: int = 180
    out_of_order_seconds: int = 60
    duplicate_minutes: int = 10
    clock_skew_seconds: int = 300

    # In each bound's own unit: a window reads back as far as a delay may reach.
    _LARGEST: ClassVar[dict[str, int]] = {
        "late_minutes": 7 * _DAY_MINUTES,
        "out_of_order_seconds": 3_600,
        "duplicate_minutes": 7 * _DAY_MINUTES,
        "clock_skew_seconds": 86_400,
    }

    def __post_init__(self) -> None:
        """Refuse what is not allowed."""
        for name, rate in self.rates.items():
            if not (type(rate) in (int, float) and 0 <= rate <= 1):
                raise _refused(f"rate {name}", rate, "a number from 0 to 1")
        total = math.fsum(self.rates.values())
        if total > 1 + 1e-9:
            raise SettingsError(
                f"The chaos rates add up to {total:g}; at most one kind happens to an event, so "
                "their sum must be 1 or less",
                hint=_HINT,
            )
        if type(self.seed) is not int:
            raise _refused("seed", self.seed, "a whole number")
        for name, largest in self._LARGEST.items():
            bound = getattr(self, name)
            if not (type(bound) is int and 1 <= bound <= largest):
                raise _refused(f"bound {name}", bound, f"a whole number from 1 to {largest}")

    @property
    def rates(self) -> dict[str, float]:
        """Rate by kind, in the order in which draws are dealt out."""
        names = (f.name for f in fields(self) if f.type is float)
        return {name: getattr(self, name) for name in names}

    @property
    def is_on(self) -> bool:
        """True where anything can go wrong."""
        return any(self.rates.values())

    @property
    def max_delay_seconds(self) -> int:
        """No event is delivered later than this after its time, virtual seconds."""
        delays = {
            "late": self.late_minutes * 60,
            "out_of_order": self.out_of_order_seconds,
            "duplicate": self.duplicate_minutes * 60,
        }
        return max((delay for kind, delay in delays.items() if self.rates[kind]), default=0)

    @property
    def text(self) -> str:
        """What `parse` reads: every value that is not the default, '' where all are."""
        rates = {name: float(rate) for name, rate in self.rates.items()}
        values = {f.name: rates.get(f.name, getattr(self, f.name)) for f in fields(self)}
        changed = (f for f in fields(self) if values[f.name] != f.default)
        return ",".join(f"{f.name}={values[f.name]!r}" for f in changed)

    @classmethod
    def parse(cls, text: str) -> "Chaos":
        """Chaos from `name=value` pairs with commas between them; '' is none.

        Raises:
            SettingsError: a name is not known or there twice, or a value is not allowed.
        """
        types = {f.name: f.type for f in fields(cls)}
        values: dict[str, float] = {}
        for pair in filter(None, map(str.strip, text.split(","))):
            name, _, value = map(str.strip, pair.partition("="))
            if name not in types:
                raise SettingsError(
                    f"There is no chaos kind or bound {name!r}; allowed are {', '.join(types)}",
                    hint=_HINT,
                )
            if name in values:
                raise SettingsError(f"The chaos value {name} is given twice", hint=_HINT)
            whole = types[name] is int
            try:
                values[name] = int(value) if whole else float(value)
            except ValueError as error:
                allowed = "a whole number" if whole else "a number from 0 to 1"
                raise _refused(f"value {name}", value, allowed) from error
        return cls(**values)  # type: ignore[arg-type]  # whole ones are ints, see above


def _refused(name: str, value: object, allowed: str) -> SettingsError:
    return SettingsError(f"The chaos {name} is {value!r}; it must be {allowed}", hint=_HINT)


NO_CHAOS = Chaos()
