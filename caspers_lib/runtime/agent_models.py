"""The model path of an agent, as the settings say: an endpoint, a served agent, or none.

In a workspace the agents are asked at the endpoints that their tasks made, and texts are written by
`ai_query`; elsewhere both at the addresses that the settings name.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import SecretStr

from caspers_lib.agents.contracts import AnswerKind, ComplaintAnswer, ComplaintText, RefundAnswer
from caspers_lib.agents.model.answers import ModelAnswers
from caspers_lib.agents.model.askers import AiQueryAsker, HttpAsker
from caspers_lib.agents.model.complaint_prompt import WRITER_INSTRUCTIONS
from caspers_lib.agents.model.complaint_writer import ComplaintWriter
from caspers_lib.agents.model.instructions import complaint_instructions, refund_instructions
from caspers_lib.agents.model.settings import MODEL_KEY, Limits, ModelSettings
from caspers_lib.agents.refund_policy import RefundPolicy
from caspers_lib.agents.serving.served import endpoint_settings
from caspers_lib.agents.triage_policy import TriagePolicy
from caspers_lib.errors import CaspersError
from caspers_lib.runtime.settings import Settings
from caspers_lib.workspace_calls import found

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

__all__ = [
    "MODEL_KEY",
    "agent_model",
    "check_models",
    "complaint_writer",
    "workspace_agent_model",
    "workspace_complaint_writer",
]

_Agent = Literal["refunds", "responses"]
_KINDS: Mapping[_Agent, AnswerKind] = {"refunds": RefundAnswer, "responses": ComplaintAnswer}
_WRITER_TEMPERATURE = 0.8  # warm, or customers of one tone would all sound alike


def agent_model(
    settings: Settings,
    agent: _Agent,
    *,
    cache: Path,
    environment: Mapping[str, str] = os.environ,
) -> ModelAnswers | None:
    """How an agent's stream asks a model on a laptop.

    Args:
        settings: name the endpoint, or a served agent, which comes first.
        agent: whose stream.
        cache: folder of the answers that were paid for.
        environment: holds the endpoint's key, if it needs one.

    Returns:
        None where the settings name neither: the rules answer alone.

    Raises:
        SettingsError: an address or the key is not allowed.
    """
    is_refund = agent == "refunds"
    served = settings.refund_agent_url if is_refund else settings.complaint_agent_url
    if not served and not settings.model_base_url:
        return None
    endpoint = _model_settings(settings, environment)
    if served:
        # It has a key of its own for its model, and gets none of ours.
        endpoint = replace(endpoint, base_url=served, model="agent", api_key=None)
        return _answers(settings, _agent_asker(endpoint, agent, cache))
    told = (
        refund_instructions(RefundPolicy()) if is_refund else complaint_instructions(TriagePolicy())
    )
    asker = HttpAsker(settings=endpoint, kind=_KINDS[agent], instructions=told, cache=str(cache))
    return _answers(settings, asker)


def workspace_agent_model(
    settings: Settings, agent: _Agent, client: "WorkspaceClient", *, cache: Path
) -> tuple[ModelAnswers, str]:
    """How an agent's stream asks the agent's endpoint in a workspace.

    Args:
        settings: name the endpoint, which the agent's task makes.
        agent: whose stream.
        client: the workspace; its login is the endpoint's, too.
        cache: folder of the answers that were paid for.

    Returns:
        The model path, and who answers, in words. Until the endpoint is ready the rules answer,
        and the questions stay open.

    """
    is_refund = agent == "refunds"
    name = (
        settings.refund_agent_endpoint_name if is_refund else settings.complaint_agent_endpoint_name
    )
    try:
        endpoint = found(client.serving_endpoints.get, name)
        state = endpoint.state.ready if endpoint and endpoint.state else None
        if state is None or state.value != "READY":
            return _answers(settings, None), f"the rules until the endpoint {name} is ready"
        asked = _limited(settings, endpoint_settings(name, client))
    except CaspersError as error:
        return _answers(settings, None), f"the rules: {error.message}"
    return _answers(settings, _agent_asker(asked, agent, cache)), name


def complaint_writer(
    settings: Settings, *, cache: Path, environment: Mapping[str, str] = os.environ
) -> ComplaintWriter | None:
    """How the complaint generator asks a model for its texts on a laptop.

    Args:
        settings: name the endpoint.
        cache: folder of the texts that were paid for.
        environment: holds the endpoint's key, if it needs one.

    Returns:
        None where the settings name no endpoint: the rules write.

    Raises:
        SettingsError: the address or the key is not allowed.
    """
    if not settings.model_base_url:
        return None
    endpoint = replace(_model_settings(settings, environment), temperature=_WRITER_TEMPERATURE)
    asker = HttpAsker(
        settings=endpoint, kind=ComplaintText, instructions=WRITER_INSTRUCTIONS, cache=str(cache)
    )
    return ComplaintWriter(asker=asker, texts_per_batch=settings.model_questions)


def workspace_complaint_writer(settings: Settings) -> ComplaintWriter:
    """How the complaint generator asks a model for its texts in a workspace: by `ai_query`.

    Args:
        settings: name the model.

    Raises:
        SettingsError: no endpoint can have the model's name.
    """
    asker = AiQueryAsker(
        endpoint=settings.llm_model,
        kind=ComplaintText,
        instructions=WRITER_INSTRUCTIONS,
        temperature=_WRITER_TEMPERATURE,
        calls_a_day=settings.model_calls_a_day,
    )
    return ComplaintWriter(asker=asker, texts_per_batch=settings.model_questions)


def check_models(settings: Settings, *, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse settings of models with which a laptop's stream would fail.

    Args:
        settings: name the endpoints.
        environment: holds the endpoint's key, if it needs one.

    Raises:
        SettingsError: an address or the key is not allowed.
    """
    for agent in ("refunds", "responses"):
        agent_model(settings, agent, cache=Path(), environment=environment)
    complaint_writer(settings, cache=Path(), environment=environment)


def _agent_asker(endpoint: ModelSettings, agent: _Agent, cache: Path) -> HttpAsker:
    """Asks a served agent, which knows its policy and says itself who answered."""
    served = replace(endpoint, api="responses", is_agent=True)
    return HttpAsker(settings=served, kind=_KINDS[agent], instructions="", cache=str(cache))


def _answers(settings: Settings, asker: HttpAsker | None) -> ModelAnswers:
    return ModelAnswers(
        asker=asker,
        fallback=settings.model_fallback,
        questions_per_batch=settings.model_questions,
    )


def _model_settings(settings: Settings, environment: Mapping[str, str]) -> ModelSettings:
    key = environment.get(MODEL_KEY)
    endpoint = ModelSettings(
        base_url=settings.model_base_url or "http://127.0.0.1",
        model=settings.llm_model,
        api=settings.model_api,
        api_key=SecretStr(key) if key else None,
    )
    return _limited(settings, endpoint)


def _limited(settings: Settings, endpoint: ModelSettings) -> ModelSettings:
    return replace(
        endpoint,
        concurrency=settings.model_concurrency,
        day_budget=Limits(calls=settings.model_calls_a_day),
    )
