"""What a person asks of the replay, from a form or as JSON, and what is said about it.

Pure but for `steer`, which calls the host's controls.
"""

import json
import math
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import parse_qs

from caspers_lib.console.source import ReplayControls
from caspers_lib.errors import ConsoleError

__all__ = ["ReplayAction", "Steering", "steer", "steering", "wanted"]

ReplayAction: TypeAlias = Literal["pause", "resume", "speed", "seek"]

_LONGEST_VALUE = 100
# A day of the dataset in a second; faster is a slip of the finger that fills a disk.
_FASTEST = 86_400
_DONE: dict[ReplayAction, str] = {
    "pause": "The replay is paused.",
    "resume": "The replay goes on.",
    "speed": "The replay plays at speed {value}.",
    "seek": "The replay goes to {value}.",
}
_FIELDS: dict[ReplayAction, tuple[str, str]] = {
    "speed": ("speed", "60 plays an hour in a minute."),
    "seek": ("target", "A dataset day such as 75.5, +6h, -30m, or 2024-03-16T12:30 will do."),
}


@dataclass(frozen=True, slots=True)
class Steering:
    """What a person asks of the replay.

    Args:
        action: what to do.
        value: the speed or the target; empty for the others.
    """

    action: ReplayAction
    value: str = ""


def wanted(action: ReplayAction, content_type: str, body: bytes) -> Steering:
    """What is asked for.

    Args:
        action: the action of the address.
        content_type: of the body: a form's, or JSON.
        body: the form's fields or a JSON object: `speed` or `target`.

    Raises:
        ConsoleError: the value is missing, no text or number, or longer than 100 characters.
    """
    if action not in _FIELDS:
        return Steering(action)
    kind = content_type.partition(";")[0].strip().lower()
    return steering(action, _field(_FIELDS[action][0], kind, body))


def steering(action: ReplayAction, value: str) -> Steering:
    """What is asked for.

    Args:
        action: what to do.
        value: the speed or the target.

    Raises:
        ConsoleError: the value is missing, or longer than 100 characters.
    """
    if action not in _FIELDS:
        return Steering(action)
    name, hint = _FIELDS[action]
    if not value:
        raise ConsoleError(f"The {name} is missing.", hint=hint)
    if len(value) > _LONGEST_VALUE:
        raise ConsoleError(f"The {name} is longer than {_LONGEST_VALUE} characters.", hint=hint)
    return Steering(action, value)


def steer(controls: ReplayControls, steering: Steering) -> str:
    """Do it, and say so in a sentence.

    Args:
        controls: the host's.
        steering: what to do.

    Raises:
        CaspersError: the value is not allowed, or the replay can't be steered now.
    """
    match steering.action:
        case "pause":
            controls.pause()
        case "resume":
            controls.resume()
        case "speed":
            controls.set_speed(_speed(steering.value))
        case "seek":
            controls.seek(steering.value)
    return _DONE[steering.action].format(value=steering.value)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 < speed <= _FASTEST:
        raise ConsoleError(
            f"The speed is {text!r}; it must be a number above 0, and at most {_FASTEST}.",
            hint=_FIELDS["speed"][1],
        )
    return speed


def _field(name: str, content_type: str, body: bytes) -> str:
    try:
        if content_type == "application/json":
            document = json.loads(body)
            value = document.get(name, "") if isinstance(document, dict) else None
            if type(value) not in (str, int, float):
                raise ConsoleError(
                    f"The body has no {name} that is a text or a number.",
                    hint=f'It is a JSON object such as {{"{name}": ...}}.',
                )
            return str(value).strip()
        return parse_qs(body.decode()).get(name, [""])[-1].strip()
    except (ValueError, RecursionError) as error:
        raise ConsoleError(
            "The body can't be read.", hint="Send a form's fields or a JSON object."
        ) from error
