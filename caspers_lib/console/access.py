"""Who may do what in the console: people, roles and limits, from configuration.

Who a person is comes from the platform (`web.identity`), never from
what a browser sends in a form.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal, TypeAlias, get_args

from caspers_lib.errors import SettingsError

__all__ = ["ConsoleAccess", "Person", "Role", "access_from_environment", "is_root_path"]

Role: TypeAlias = Literal["viewer", "agent", "manager"]
"""What a person may do: look; decide up to a limit; decide everything, and reverse."""

_TRUE, _FALSE = frozenset({"1", "true", "yes"}), frozenset({"0", "false", "no", ""})
_LARGEST_USD = Decimal("9999999999.99")
# Two slashes at the front would be the name of another host.
_ROOT_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)*", re.ASCII)
_VARIABLES = (
    "CONSOLE_AGENTS", "CONSOLE_AGENT_LIMIT_USD", "CONSOLE_EVERYBODY", "CONSOLE_FOUR_EYES_USD",
    "CONSOLE_MANAGERS", "CONSOLE_PROXY", "CONSOLE_ROOT_PATH",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who uses the console.

    Args:
        name: as the platform tells it, usually an e-mail address.
        role: what they may do.
    """

    name: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleAccess:
    """Roles and limits; whoever is in neither list has the role of everybody.

    Args:
        proxy: the platform's proxy tells who asks, and under which address; without one, it is the
            person at this machine.
        root_path: the prefix under which a proxy publishes the console, such as `/casper`.
        managers: names of those who may decide everything and reverse.
        agents: names of those who may decide up to `agent_limit_usd`.
        everybody: the role of whoever else the proxy lets in.
        agent_limit_usd: the largest refund that an agent gives, USD.
        four_eyes_usd: the largest refund that one manager gives alone, USD.
        local_person: the name of the person at this machine, who is a manager.
    """

    proxy: bool = False
    root_path: str = ""
    managers: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()
    everybody: Role = "viewer"
    agent_limit_usd: Decimal = Decimal("25.00")
    four_eyes_usd: Decimal = Decimal("100.00")
    local_person: str = "local"

    def person(self, name: str) -> Person:
        """The person of that name; upper and lower case are the same person.

        Args:
            name: as the platform tells it.
        """
        folded = name.casefold()
        if folded in {manager.casefold() for manager in self.managers}:
            return Person(folded, "manager")
        if folded in {agent.casefold() for agent in self.agents}:
            return Person(folded, "agent")
        return Person(folded, self.everybody)

    @property
    def at_this_machine(self) -> Person:
        """Who asks where no proxy tells it."""
        return Person(self.local_person, "manager")


def access_from_environment(environment: Mapping[str, str]) -> ConsoleAccess:
    """Roles and limits as the environment says.

    `CONSOLE_PROXY` (1 or 0; by default 1 inside a Databricks App, which sets
    `DATABRICKS_APP_NAME`), `CONSOLE_ROOT_PATH` (a path such as `/casper`), `CONSOLE_MANAGERS` and
    `CONSOLE_AGENTS` (names, separated by commas), `CONSOLE_EVERYBODY` (viewer, agent or manager),
    `CONSOLE_AGENT_LIMIT_USD` and `CONSOLE_FOUR_EYES_USD`.

    Args:
        environment: the variables by name.

    Raises:
        SettingsError: a value is not allowed, or there is no such variable.
    """
    for name in sorted(environment):
        if name.startswith("CONSOLE_") and name not in _VARIABLES:
            raise SettingsError(
                f"{name} is no setting of the console.",
                hint=f"Allowed are {', '.join(_VARIABLES)}.",
            )
    standard = ConsoleAccess()
    return ConsoleAccess(
        proxy=_truth(environment, "CONSOLE_PROXY", "DATABRICKS_APP_NAME" in environment),
        root_path=_root_path(environment.get("CONSOLE_ROOT_PATH", "")),
        managers=_names(environment.get("CONSOLE_MANAGERS", "")),
        agents=_names(environment.get("CONSOLE_AGENTS", "")),
        everybody=_role(environment.get("CONSOLE_EVERYBODY", standard.everybody)),
        agent_limit_usd=_usd(environment, "CONSOLE_AGENT_LIMIT_USD", standard.agent_limit_usd),
        four_eyes_usd=_usd(environment, "CONSOLE_FOUR_EYES_USD", standard.four_eyes_usd),
    )


def is_root_path(text: str) -> bool:
    """Whether a text is a path prefix, such as `/casper`; the empty one is none.

    Args:
        text: without a slash at its end.
    """
    return _ROOT_PATH.fullmatch(text) is not None


def _names(text: str) -> frozenset[str]:
    return frozenset(name for part in text.split(",") if (name := part.strip()))


def _root_path(text: str) -> str:
    root_path = text.rstrip("/")
    if not is_root_path(root_path):
        raise SettingsError(
            f"CONSOLE_ROOT_PATH is {text!r}.", hint="It is a path prefix, such as /casper."
        )
    return root_path


def _role(text: str) -> Role:
    for role in get_args(Role):
        if text == role:
            return text  # type: ignore[return-value]
    raise SettingsError(
        f"CONSOLE_EVERYBODY is {text!r}.", hint="Allowed are viewer, agent and manager."
    )


def _truth(environment: Mapping[str, str], name: str, default: bool) -> bool:
    value = environment.get(name)
    if value is None:
        return default
    if value.lower() not in _TRUE | _FALSE:
        raise SettingsError(f"{name} is {value!r}.", hint="Allowed are 1 and 0.")
    return value.lower() in _TRUE


def _usd(environment: Mapping[str, str], name: str, default: Decimal) -> Decimal:
    text = environment.get(name)
    if text is None:
        return default
    try:
        usd = Decimal(text)
    except InvalidOperation:
        usd = Decimal("NaN")
    if not (usd.is_finite() and 0 <= usd <= _LARGEST_USD):
        raise SettingsError(
            f"{name} is {text!r}.", hint="It is an amount of USD from 0, such as 25.00."
        )
    return usd
