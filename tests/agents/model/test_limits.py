import pickle
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from caspers_lib.agents.model.limits import Budget, CircuitBreaker, Spent, TokenBucket
from caspers_lib.agents.model.settings import Limits, ModelSettings
from caspers_lib.errors import ModelBudgetError, SettingsError

KEY = "sk-secret-key"
DAY = 86_400.0


class Time:
    """A clock that a test sets."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


# The token bucket ---------------------------------------------------------------------------------


def started_at(bucket: TokenBucket, time: Time, calls: int) -> list[float]:
    """When each of so many eager calls starts."""
    found = []
    for _ in range(calls):
        for _ in range(3):  # a wait that is too short for the clock would never end
            time.now += bucket.wait_s()
        assert bucket.wait_s() == 0
        bucket.take()
        found.append(time.now)
    return found


def test_calls_start_as_far_apart_as_the_rate_says() -> None:
    time = Time()
    assert started_at(TokenBucket(60, clock=time), time, 4) == pytest.approx([0, 1, 2, 3])


def test_a_second_s_worth_of_calls_may_start_at_once() -> None:
    time = Time()
    found = started_at(TokenBucket(180, clock=time), time, 5)
    assert found == pytest.approx([0, 0, 0, 1 / 3, 2 / 3])


def test_idle_time_is_not_saved_up() -> None:
    time = Time()
    bucket = TokenBucket(60, clock=time)
    time.now = 1_000
    assert started_at(bucket, time, 3) == pytest.approx([1_000, 1_001, 1_002])


@given(
    st.floats(0.5, 600), st.lists(st.floats(0, 30, allow_subnormal=False), min_size=1, max_size=60)
)
def test_no_minute_has_more_calls_than_the_rate_and_a_second_s_worth(
    rate: float, pauses: list[float]
) -> None:
    time = Time()
    bucket = TokenBucket(rate, clock=time)
    found: list[float] = []
    for pause in pauses:
        time.now += pause
        found += started_at(bucket, time, 1)
    for start in found:
        within = [at for at in found if start <= at < start + 60]
        assert len(within) <= rate + max(1, rate / 60) + 1e-6


def test_a_pause_that_the_server_asks_for_holds_every_call() -> None:
    for rate in (None, 6_000):
        time = Time()
        bucket = TokenBucket(rate, clock=time)
        assert bucket.wait_s() == 0
        bucket.pause(7)
        bucket.pause(3)
        assert bucket.wait_s() == pytest.approx(7)
        time.now = 7
        assert bucket.wait_s() == 0


# The circuit breaker ------------------------------------------------------------------------------


def breaker(time: Time) -> CircuitBreaker:
    return CircuitBreaker(3, 30, clock=time)


def call(breaker: CircuitBreaker, *healthy: bool | None) -> None:
    for outcome in healthy:
        admission = breaker.admit()
        assert admission
        breaker.report(admission, outcome)


def test_J7_failures_in_a_row_open_the_breaker() -> None:
    time = Time()
    subject = breaker(time)
    call(subject, False, False, True, False, False, None)
    assert subject.state == "closed"
    call(subject, False)
    assert subject.state == "open"
    assert subject.admit() is None


def test_after_a_while_one_call_tries_and_its_success_closes_the_breaker() -> None:
    time = Time()
    subject = breaker(time)
    call(subject, False, False, False)
    time.now = 30
    assert subject.state == "half_open"
    probe = subject.admit()
    assert probe
    assert probe.is_probe
    assert subject.admit() is None
    subject.report(probe, True)
    assert subject.state == "closed"
    call(subject, False, False)
    assert subject.state == "closed"


def test_a_try_that_fails_opens_it_for_another_while() -> None:
    time = Time()
    subject = breaker(time)
    call(subject, False, False, False)
    time.now = 30
    call(subject, False)
    assert subject.state == "open"
    time.now = 59
    assert subject.admit() is None
    time.now = 60
    assert subject.admit()


def test_a_try_that_shows_nothing_leaves_the_try_to_the_next_call() -> None:
    time = Time()
    subject = breaker(time)
    call(subject, False, False, False)
    time.now = 30
    call(subject, None)
    assert subject.state == "half_open"
    call(subject, True)
    assert subject.state == "closed"


def test_calls_from_before_it_opened_change_nothing() -> None:
    time = Time()
    subject = breaker(time)
    late = [subject.admit() for _ in range(3)]
    call(subject, False, False, False)
    time.now = 29
    for admission, healthy in zip(late, (True, False, None), strict=True):
        assert admission
        subject.report(admission, healthy)
    assert subject.state == "open"
    time.now = 30
    assert subject.state == "half_open"


def test_a_longer_pause_outlasts_a_shorter_one() -> None:
    time = Time()
    subject = breaker(time)
    subject.trip(100, "it asks for a pause")
    subject.trip(5, "another")
    time.now = 99
    assert subject.is_open
    time.now = 100
    assert subject.admit()


# The budget ---------------------------------------------------------------------------------------

ESTIMATE = Spent(1, 100, 50, Decimal("0.03"))
ACTUAL = Spent(1, 40, 10, Decimal("0.01"))


def budget(time: Time | None = None, **limits: Any) -> Budget:
    return Budget(Limits(**limits), Limits(), clock=time or Time())


def test_calls_at_the_same_time_can_not_overshoot_the_calls() -> None:
    subject = budget(calls=2)
    assert subject.reserve(ESTIMATE)
    assert subject.reserve(ESTIMATE)
    with pytest.raises(ModelBudgetError, match="2 calls leaves no room"):
        subject.reserve(ESTIMATE)


@pytest.mark.parametrize("limits", [{"tokens": 350}, {"usd": Decimal("0.07")}])
def test_what_does_not_fit_beside_calls_in_flight_waits_until_one_cost_less(
    limits: dict[str, Any],
) -> None:
    subject = budget(**limits)
    first = subject.reserve(ESTIMATE)
    assert first
    assert subject.reserve(ESTIMATE)
    assert subject.reserve(ESTIMATE) is None
    subject.settle(first, ACTUAL)
    assert subject.spent == ACTUAL
    assert subject.reserve(ESTIMATE)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"tokens": 149}, "The batch's budget of 149 tokens .* 0 spent, up to 150 needed"),
        ({"usd": Decimal("0.02")}, "The batch's budget of 0.02 USD .* 0 spent, up to 0.03 needed"),
        ({"calls": 0}, "The batch's budget of 0 calls"),
    ],
)
def test_what_can_never_fit_is_refused_at_once(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelBudgetError, match=message):
        budget(**limits).reserve(ESTIMATE)


def test_a_call_that_was_not_sent_gives_all_back() -> None:
    subject = budget(calls=1)
    reservation = subject.reserve(ESTIMATE)
    assert reservation
    subject.settle(reservation, Spent())
    assert subject.spent == Spent()
    assert subject.reserve(ESTIMATE)


def test_what_was_spent_before_counts_for_the_day_until_midnight_utc() -> None:
    time = Time(10 * DAY - 1)
    day = Limits(calls=5)
    subject = Budget(Limits(), day, clock=time, spent_today=Spent(calls=4))
    reservation = subject.reserve(ESTIMATE)
    assert reservation
    with pytest.raises(ModelBudgetError, match="The day's budget of 5 calls"):
        subject.reserve(ESTIMATE)
    time.now = 10 * DAY
    subject.settle(reservation, ACTUAL)
    assert all(subject.reserve(ESTIMATE) for _ in range(4))
    with pytest.raises(ModelBudgetError, match=r"The day's budget .* 5 spent"):
        subject.reserve(ESTIMATE)


@given(st.data())
def test_no_order_of_calls_passes_a_limit_when_estimates_hold(data: st.DataObject) -> None:
    limits = Limits(calls=9, tokens=900, usd=Decimal("0.20"))
    subject = Budget(limits, Limits(), clock=Time())
    flying = []
    for starts in data.draw(st.lists(st.booleans(), max_size=60)):
        if starts:
            try:
                flying.append(subject.reserve(ESTIMATE))
            except ModelBudgetError:
                continue
            if flying[-1] is None:
                flying.pop()
                assert flying  # somebody is there to be waited for
        elif flying:
            reservation = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
            tokens = data.draw(st.integers(0, 100))
            cost = Spent(1, tokens, tokens // 2, Decimal(tokens) / 10_000)
            subject.settle(reservation, cost)
    for reservation in flying:
        subject.settle(reservation, ESTIMATE)
    assert subject.spent.calls <= 9
    assert subject.spent.tokens <= 900
    assert subject.spent.usd <= Decimal("0.20")


# Settings -----------------------------------------------------------------------------------------


def settings(**changed: Any) -> ModelSettings:
    fields = {"base_url": "http://localhost:1/v1", "model": "m", "api_key": SecretStr(KEY)}
    return ModelSettings(**(fields | changed))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": " "}, "model is ' '; it must be the model's name"),
        ({"api": "completions"}, "api is 'completions'; it must be chat or responses"),
        ({"timeout_s": 0}, "timeout_s is 0; it must be a number of seconds above 0"),
        ({"timeout_s": float("nan")}, "timeout_s is nan"),
        ({"timeout_s": True}, "timeout_s is True"),
        ({"max_retries": -1}, "max_retries is -1; it must be 0 or more"),
        ({"max_retries": 1.5}, "max_retries is 1.5"),
        ({"backoff_cap_s": float("inf")}, "backoff_cap_s is inf"),
        ({"concurrency": 0}, "concurrency is 0; it must be 1 or more"),
        ({"calls_per_minute": 0}, "calls_per_minute is 0; it must be a number above 0, or None"),
        ({"breaker_failures": 0}, "breaker_failures is 0"),
        ({"usd_per_million_input": 0.5}, "usd_per_million_input is 0.5; it must be a Decimal"),
        ({"usd_per_million_output": Decimal("NaN")}, "usd_per_million_output is Decimal"),
        ({"batch_budget": None}, "batch_budget is None; it must be Limits"),
        ({"max_output_tokens": 0}, "max_output_tokens is 0"),
        ({"temperature": 2.5}, "temperature is 2.5; it must be a number from 0 to 2, or None"),
        ({"day_budget": Limits(usd=Decimal(1))}, "limits usd, but both prices are 0"),
        ({"api_key": KEY}, "api_key is no SecretStr"),
        ({"api_key": SecretStr("")}, "api_key is empty"),
        ({"api_key": SecretStr(f"{KEY}\n")}, "api_key is empty or holds blanks, control"),
        ({"base_url": "localhost:8000"}, "base_url is no http or https address"),
        ({"base_url": "http://"}, "base_url is no http"),
        ({"base_url": "http://host:port/v1"}, "base_url is no http"),
        ({"base_url": "http://[::1/v1"}, "base_url is no http"),
        ({"base_url": None}, "base_url is no http"),
        ({"base_url": f"https://me:{KEY}@host/v1"}, "base_url holds a user or a password"),
        ({"base_url": f"https://host/v1?api-key={KEY}"}, "base_url holds a query"),
    ],
)
def test_a_setting_that_is_not_allowed_is_refused_by_name(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        settings(**change)
    assert message in str(refused.value)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("limits", [{"calls": -1}, {"tokens": 1.5}, {"usd": 1.0}, {"calls": True}])
def test_a_limit_that_is_no_amount_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="limit of"):
        Limits(**limits)


def test_settings_survive_pickling_and_never_show_the_key() -> None:
    subject = settings()
    assert pickle.loads(pickle.dumps(subject)) == subject  # noqa: S301 - our own bytes
    assert subject.secret == KEY
    assert KEY not in repr(subject) + str(subject)


def test_prices_are_by_the_million() -> None:
    subject = settings(
        usd_per_million_input=Decimal("0.15"), usd_per_million_output=Decimal("0.60")
    )
    assert subject.usd(1_000, 100) == Decimal("0.00021")
