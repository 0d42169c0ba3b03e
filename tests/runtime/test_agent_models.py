from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
from databricks.sdk.errors.platform import NotFound, PermissionDenied
from databricks.sdk.service.serving import (
    EndpointState,
    EndpointStateReady,
    ServingEndpointDetailed,
)

from caspers_lib.agents.model.askers import AiQueryAsker, HttpAsker
from caspers_lib.errors import SettingsError
from caspers_lib.runtime.agent_models import (
    MODEL_KEY,
    agent_model,
    complaint_writer,
    workspace_agent_model,
    workspace_complaint_writer,
)
from caspers_lib.runtime.settings import Settings, load_settings


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


class Client:
    """A workspace with a login, and one endpoint that answers as told."""

    config = SimpleNamespace(
        host="https://workspace/", authenticate=lambda: {"Authorization": "Bearer token-1"}
    )

    def __init__(self, told: ServingEndpointDetailed | Exception) -> None:
        self.told = told
        self.serving_endpoints = SimpleNamespace(get=self.get)

    def get(self, _name: str) -> ServingEndpointDetailed:
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


READY = ServingEndpointDetailed(state=EndpointState(ready=EndpointStateReady.READY))
STARTING = ServingEndpointDetailed(state=EndpointState(ready=EndpointStateReady.NOT_READY))


def in_workspace(told: Any, agent: Literal["refunds", "responses"], **given: Any) -> Any:
    client = cast("Any", Client(told))
    return workspace_agent_model(Settings(**given), agent, client, cache=Path("c"))


def test_in_a_workspace_the_agents_endpoint_is_asked_with_the_tasks_own_login() -> None:
    limits = {"model_concurrency": 3, "model_calls_a_day": 9, "model_questions": 7}
    model, who = in_workspace(READY, "responses", model_fallback="pending", **limits)
    asked = model.asker.settings
    assert (who, asked.model) == ("caspers_complaint_agent",) * 2
    assert (asked.base_url, asked.api) == ("https://workspace/serving-endpoints", "responses")
    assert (asked.secret, asked.is_agent, asked.concurrency) == ("token-1", True, 3)
    assert (asked.day_budget.calls, model.questions_per_batch) == (9, 7)
    assert model.fallback == "pending"
    assert "token-1" not in repr(model)


@pytest.mark.parametrize(
    ("told", "who"),
    [
        (NotFound("none"), "the rules until the endpoint caspers_refund_agent is ready"),
        (STARTING, "the rules until the endpoint caspers_refund_agent is ready"),
        (ServingEndpointDetailed(), "the rules until the endpoint caspers_refund_agent is ready"),
        (PermissionDenied("not you"), "the rules: caspers_refund_agent can't be read: not you"),
    ],
)
def test_until_the_endpoint_can_be_asked_its_questions_stay_open(told: Any, who: str) -> None:
    model, said = in_workspace(told, "refunds")
    assert model.asker is None
    assert said.startswith(who)


def test_in_a_workspace_texts_are_written_by_ai_query() -> None:
    writer = workspace_complaint_writer(Settings(llm_model="llm", model_calls_a_day=5))
    assert isinstance(writer.asker, AiQueryAsker)
    assert (writer.asker.endpoint, writer.asker.calls_a_day) == ("llm", 5)
