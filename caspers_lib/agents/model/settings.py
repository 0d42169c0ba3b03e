"""How a model is asked: the endpoint, its limits and prices, as one frozen and picklable value."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from caspers_lib.errors import SettingsError

__all__ = ["MODEL_KEY", "Limits", "Message", "ModelSettings"]

MODEL_KEY = "CASPERS_MODEL_API_KEY"
"""Environment variable with the endpoint's key."""

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation with a model.

    Args:
        role: who says it.
        content: what is said.
    """

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may be spent at most; None is unlimited.

    Args:
        calls: requests sent, retries and repairs included.
        tokens: tokens of input and output together.
        usd: USD by the prices of the settings.

    Raises:
        SettingsError: a limit is below 0 or no number.
    """

    calls: int | None = None
    tokens: int | None = None
    usd: Decimal | None = None

    def __post_init__(self) -> None:
        """Refuse limits that mean nothing."""
        for name in ("calls", "tokens"):
            value = getattr(self, name)
            _check(f"limit of {name}", value, _optional(_whole(0)), "0 or more, or None")
        _check("limit of usd", self.usd, _optional(_decimal), "a Decimal of 0 or more, or None")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """An OpenAI-compatible endpoint, and how far it may be used.

    Args:
        base_url: where the API lies, as `https://host/v1`; holds no user, password or query.
        model: the model's name there.
        api_key: the bearer token; None where none is needed.
        api: which of the two APIs is spoken: chat completions or responses.
        is_agent: whether an agent answers there that says itself who gave the answer, and takes
            no second question about it.
        timeout_s: seconds for one call, from sending it to its last byte.
        max_retries: further calls after one that failed for the moment.
        backoff_base_s: the first retry waits up to so many seconds, each later one up to twice as
            long (full jitter).
        backoff_cap_s: seconds that a retry waits at most.
        retry_after_cap_s: a server that asks for a longer pause than so many seconds is not waited
            for.
        concurrency: requests in flight at most.
        calls_per_minute: requests started a minute, and at most a second's worth of them at once;
            None is unlimited.
        breaker_failures: after so many failures in a row the model is not asked for a while.
        breaker_reset_s: seconds of that while; then one call tries.
        usd_per_million_input: price of a million input tokens.
        usd_per_million_output: price of a million output tokens.
        batch_budget: what one batch may spend.
        day_budget: what one UTC day may spend.
        max_output_tokens: tokens that a reply may have.
        temperature: 0 to 2; None leaves it out, which some models ask for.

    Raises:
        SettingsError: a value is not allowed.
    """

    base_url: str
    model: str
    api_key: SecretStr | None = None
    api: Literal["chat", "responses"] = "chat"
    is_agent: bool = False
    timeout_s: float = 60.0
    max_retries: int = 3
    backoff_base_s: float = 0.5
    backoff_cap_s: float = 20.0
    retry_after_cap_s: float = 60.0
    concurrency: int = 16
    calls_per_minute: float | None = None
    breaker_failures: int = 8
    breaker_reset_s: float = 30.0
    usd_per_million_input: Decimal = Decimal(0)
    usd_per_million_output: Decimal = Decimal(0)
    batch_budget: Limits = field(default_factory=Limits)
    day_budget: Limits = field(default_factory=Limits)
    max_output_tokens: int = 1024
    temperature: float | None = 0.0

    def __post_init__(self) -> None:
        """Refuse what is not allowed, by name and value."""
        _check_url(self.base_url)
        _check_key(self.api_key)
        for name, (is_allowed, allowed) in _RULES.items():
            _check(name, getattr(self, name), is_allowed, allowed)
        limits_usd = self.batch_budget.usd is not None or self.day_budget.usd is not None
        if limits_usd and not self.usd_per_million_input + self.usd_per_million_output:
            raise SettingsError(
                "A budget limits usd, but both prices are 0; such a limit would never bind",
                hint="set usd_per_million_input and usd_per_million_output",
            )

    @property
    def secret(self) -> str | None:
        """The bearer token in plain text, for the request's header and nothing else."""
        return None if self.api_key is None else self.api_key.get_secret_value()

    def usd(self, input_tokens: int, output_tokens: int) -> Decimal:
        """What so many tokens cost in USD, exactly."""
        price_in, price_out = self.usd_per_million_input, self.usd_per_million_output
        return (input_tokens * price_in + output_tokens * price_out) / _MILLION


_Test = Callable[[object], bool]


def _check(name: str, value: object, is_allowed: _Test, allowed: str) -> None:
    if not is_allowed(value):
        raise SettingsError(f"{name} is {value!r}; it must be {allowed}")


def _check_url(url: object) -> None:
    hint = "a key belongs in api_key"
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        usable = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
        port = parts.port if parts else None
    except ValueError:
        usable, parts, port = False, None, None
    # Whatever is wrong with it, it may hold a password, so it is not repeated.
    if not usable or parts is None or port == 0:
        raise SettingsError("base_url is no http or https address, such as https://host/v1")
    if parts.username is not None or parts.password is not None:
        raise SettingsError("base_url holds a user or a password; none is allowed", hint=hint)
    if parts.query or parts.fragment:
        raise SettingsError("base_url holds a query or a fragment; none is allowed", hint=hint)


def _check_key(key: object) -> None:
    if key is None:
        return
    if not isinstance(key, SecretStr):
        raise SettingsError("api_key is no SecretStr; it must be one, so that nothing prints it")
    secret = key.get_secret_value()
    if not (secret and secret.isascii() and secret.isprintable() and " " not in secret):
        raise SettingsError("api_key is empty or holds blanks, control or non-ASCII characters")


def _number(least: float, most: float = math.inf, *, above: bool = False) -> _Test:
    def is_allowed(value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return least <= value <= most and math.isfinite(value) and not (above and value == least)

    return is_allowed


def _whole(least: int) -> _Test:
    return lambda value: type(value) is int and value >= least


def _decimal(value: object) -> bool:
    return isinstance(value, Decimal) and value.is_finite() and value >= 0


def _optional(test: _Test) -> _Test:
    return lambda value: value is None or test(value)


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


_SECONDS = "a number of seconds above 0"
_RULES: dict[str, tuple[_Test, str]] = {
    "model": (_text, "the model's name"),
    "api": (lambda value: value in ("chat", "responses"), "chat or responses"),
    "timeout_s": (_number(0, above=True), _SECONDS),
    "max_retries": (_whole(0), "0 or more"),
    "backoff_base_s": (_number(0), "a number of seconds from 0"),
    "backoff_cap_s": (_number(0), "a number of seconds from 0"),
    "retry_after_cap_s": (_number(0), "a number of seconds from 0"),
    "concurrency": (_whole(1), "1 or more"),
    "calls_per_minute": (_optional(_number(0, above=True)), "a number above 0, or None"),
    "breaker_failures": (_whole(1), "1 or more"),
    "breaker_reset_s": (_number(0, above=True), _SECONDS),
    "usd_per_million_input": (_decimal, "a Decimal of USD, 0 or more"),
    "usd_per_million_output": (_decimal, "a Decimal of USD, 0 or more"),
    "batch_budget": (lambda value: isinstance(value, Limits), "Limits"),
    "day_budget": (lambda value: isinstance(value, Limits), "Limits"),
    "max_output_tokens": (_whole(1), "1 or more"),
    "temperature": (_optional(_number(0, 2)), "a number from 0 to 2, or None"),
}
