"""The model path of an agent, as the settings say: an endpoint, a served agent, or none.

Contract: DESIGN sections 1 and 7.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from caspers_lib.agents.contracts import ComplaintAnswer, ComplaintText, RefundAnswer
from caspers_lib.agents.model.answers import ModelAnswers
from caspers_lib.agents.model.askers import HttpAsker
from caspers_lib.agents.model.complaint_prompt import WRITER_INSTRUCTIONS
from caspers_lib.agents.model.complaint_writer import ComplaintWriter
from caspers_lib.agents.model.instructions import complaint_instructions, refund_instructions
from caspers_lib.agents.model.settings import Limits, ModelSettings
from caspers_lib.agents.refund_policy import RefundPolicy
from caspers_lib.agents.triage_policy import TriagePolicy
from caspers_lib.runtime.settings import Settings

__all__ = ["MODEL_KEY", "agent_model", "check_models", "complaint_writer"]

MODEL_KEY = "CASPERS_MODEL_API_KEY"
"""Environment variable with the endpoint's key."""


def agent_model(
    settings: Settings,
    agent: Literal["refunds", "responses"],
    *,
    cache: Path,
    environment: Mapping[str, str] = os.environ,
) -> ModelAnswers | None:
    """How an agent's stream asks a model.

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
        endpoint = replace(
            endpoint, base_url=served, model="agent", api="responses", is_agent=True, api_key=None
        )
    told = (
        refund_instructions(RefundPolicy()) if is_refund else complaint_instructions(TriagePolicy())
    )
    asker = HttpAsker(
        settings=endpoint,
        kind=RefundAnswer if is_refund else ComplaintAnswer,
        instructions="" if served else told,
        cache=str(cache),
    )
    return ModelAnswers(
        asker=asker,
        fallback=settings.model_fallback,
        questions_per_batch=settings.model_questions,
    )


def complaint_writer(
    settings: Settings, *, cache: Path, environment: Mapping[str, str] = os.environ
) -> ComplaintWriter | None:
    """How the complaint generator asks a model for its texts.

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
    # Warm, or customers of one tone would all sound alike.
    endpoint = replace(_model_settings(settings, environment), temperature=0.8)
    asker = HttpAsker(
        settings=endpoint, kind=ComplaintText, instructions=WRITER_INSTRUCTIONS, cache=str(cache)
    )
    return ComplaintWriter(asker=asker, texts_per_batch=settings.model_questions)


def check_models(settings: Settings, *, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse settings of models with which a stream would fail.

    Args:
        settings: name the endpoints.
        environment: holds the endpoint's key, if it needs one.

    Raises:
        SettingsError: an address or the key is not allowed.
    """
    for agent in ("refunds", "responses"):
        agent_model(settings, agent, cache=Path(), environment=environment)
    complaint_writer(settings, cache=Path(), environment=environment)


def _model_settings(settings: Settings, environment: Mapping[str, str]) -> ModelSettings:
    key = environment.get(MODEL_KEY)
    return ModelSettings(
        base_url=settings.model_base_url or "http://127.0.0.1",
        model=settings.llm_model,
        api=settings.model_api,
        api_key=SecretStr(key) if key else None,
        day_budget=Limits(calls=settings.model_calls_a_day),
    )
