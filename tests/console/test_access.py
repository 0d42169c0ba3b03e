"""Roles and limits from the environment."""

from decimal import Decimal

import pytest

from caspers_lib.console.access import ConsoleAccess, Person, access_from_environment
from caspers_lib.errors import SettingsError


def test_names_mean_the_same_person_in_any_case() -> None:
    access = access_from_environment(
        {"CONSOLE_MANAGERS": "Ann@example.com, ,BEN@example.com", "CONSOLE_AGENTS": "aida"}
    )
    assert access.person("ann@EXAMPLE.com") == Person("ann@example.com", "manager")
    assert access.person("Aida").role == "agent"
    assert access.person("vic").role == "viewer"


def test_a_laptop_has_one_manager_and_an_app_expects_a_proxy() -> None:
    assert access_from_environment({}) == ConsoleAccess()
    assert ConsoleAccess().at_this_machine.role == "manager"
    assert access_from_environment({"DATABRICKS_APP_NAME": "refunds"}).proxy
    there = {"DATABRICKS_APP_NAME": "refunds", "CONSOLE_PROXY": "0", "CONSOLE_EVERYBODY": "agent"}
    access = access_from_environment(there)
    assert not access.proxy
    assert access.person("anybody").role == "agent"


def test_limits_are_amounts() -> None:
    limits = {"CONSOLE_AGENT_LIMIT_USD": "10", "CONSOLE_FOUR_EYES_USD": "50.50"}
    access = access_from_environment(limits)
    assert (access.agent_limit_usd, access.four_eyes_usd) == (10, Decimal("50.50"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("CONSOLE_PROXY", "maybe"), ("CONSOLE_EVERYBODY", "king"), ("CONSOLE_AGENT_LIMIT_USD", "-1"),
     ("CONSOLE_AGENT_LIMIT_USD", "NaN"), ("CONSOLE_FOUR_EYES_USD", "1e309"),
     ("CONSOLE_FOUR_EYES_USD", "a lot"), ("CONSOLE_ROOT_PATH", "//evil.example"),
     ("CONSOLE_ROOT_PATH", "casper"), ("CONSOLE_ROOT_PATH", "/a b")],
)  # fmt: skip
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is '{value}'"):
        access_from_environment({name: value})


def test_a_root_path_is_kept_without_its_last_slash() -> None:
    assert access_from_environment({"CONSOLE_ROOT_PATH": "/ops/casper/"}).root_path == "/ops/casper"
    assert access_from_environment({"CONSOLE_ROOT_PATH": "/"}).root_path == ""


def test_a_variable_that_is_no_setting_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="CONSOLE_MANAGER is no setting") as refused:
        access_from_environment({"CONSOLE_MANAGER": "ann@example.com", "HOME": "/"})
    assert "CONSOLE_MANAGERS" in refused.value.hint
