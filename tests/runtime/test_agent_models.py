from pathlib import Path

import pytest

from caspers_lib.agents.model.askers import HttpAsker
from caspers_lib.errors import SettingsError
from caspers_lib.runtime.agent_models import MODEL_KEY, agent_model, complaint_writer
from caspers_lib.runtime.settings import load_settings


def asker(environment: dict[str, str], agent: str = "refunds") -> HttpAsker:
    settings = load_settings(environment=environment)
    model = agent_model(settings, agent, cache=Path("c"), environment=environment)  # type: ignore[arg-type]
    assert model is not None
    assert isinstance(model.asker, HttpAsker)
    return model.asker


def test_without_an_endpoint_the_rules_answer_alone() -> None:
    settings = load_settings(environment={})
    assert agent_model(settings, "refunds", cache=Path("c"), environment={}) is None
    assert agent_model(settings, "responses", cache=Path("c"), environment={}) is None


def test_an_endpoint_is_told_the_policy_and_given_the_key() -> None:
    found = asker({"CASPERS_MODEL_BASE_URL": "http://h/v1", MODEL_KEY: "sk-secret"})
    assert "Never more than order_total" in found.instructions
    assert found.settings.secret == "sk-secret"
    assert found.settings.model == "databricks-meta-llama-3-3-70b-instruct"
    assert found.settings.day_budget.calls == 10_000
    assert "sk-secret" not in repr(found)


def test_a_served_agent_comes_first_and_is_told_the_facts_alone() -> None:
    environment = {
        "CASPERS_MODEL_BASE_URL": "http://h/v1",
        "CASPERS_COMPLAINT_AGENT_URL": "http://a",
    }
    served = asker(environment, "responses")
    assert (served.settings.base_url, served.settings.api) == ("http://a", "responses")
    assert served.instructions == ""
    assert served.settings.is_agent
    assert served.settings.secret is None, "the model's key is not for another server"
    assert asker(environment, "refunds").settings.base_url == "http://h/v1"


def test_a_bad_address_is_refused() -> None:
    with pytest.raises(SettingsError, match="base_url"):
        asker({"CASPERS_MODEL_BASE_URL": "ftp://x"})


def test_texts_are_written_by_the_endpoint_or_the_rules() -> None:
    settings = load_settings(environment={"CASPERS_MODEL_BASE_URL": "http://h/v1"})
    writer = complaint_writer(settings, cache=Path("c"), environment={})
    assert writer is not None
    assert writer.asker.model == settings.llm_model
    plain = load_settings(environment={"CASPERS_COMPLAINT_AGENT_URL": "http://a"})
    assert complaint_writer(plain, cache=Path("c"), environment={}) is None
