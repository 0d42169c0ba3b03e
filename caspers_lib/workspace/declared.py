"""What the bundle made, as the initializer's parameters `DECLARED...` tell it."""

from caspers_lib.errors import SettingsError
from caspers_lib.runtime.settings import Settings

__all__ = ["declared_name", "declared_resources"]


def declared_resources(settings: Settings) -> dict[str, str]:
    """The name or id of each resource of the bundle, by its place in it, such as `jobs.replay`.

    Args:
        settings: hold what the bundle told, pairs `place=name` with spaces between.

    Raises:
        SettingsError: a word is no such pair.
    """
    told = {
        "DECLARED": settings.declared,
        "DECLARED_REFUNDS": settings.declared_refunds,
        "DECLARED_COMPLAINTS": settings.declared_complaints,
    }
    found: dict[str, str] = {}
    for parameter, text in told.items():
        for word in text.split():
            place, _, name = word.partition("=")
            if not name or len(place.split(".")) != 2:
                raise SettingsError(
                    f"{parameter} has {word!r}",
                    hint="the bundle gives it: pairs such as jobs.replay=123",
                )
            found[place] = name
    return found


def declared_name(settings: Settings, place: str) -> str:
    """The name or id of a resource that a task can't do without.

    Args:
        settings: as above.
        place: its place in the bundle.

    Raises:
        SettingsError: the bundle told of none.
    """
    name = declared_resources(settings).get(place)
    if name is None:
        raise SettingsError(
            f"The bundle declares no {place}", hint="run this task by the initializer of the bundle"
        )
    return name
