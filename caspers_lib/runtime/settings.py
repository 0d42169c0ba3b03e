"""The parameters of a deployment, as one typed and frozen object.

Sources in order: explicit argument, job parameter or widget, environment `CASPERS_*`, default.
"""

import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from caspers_lib.errors import SettingsError
from caspers_lib.runtime.task_graph import TargetName

__all__ = ["Runtime", "Settings", "load_settings", "parameters_of"]

Runtime = Literal["local", "workspace"]
"""Where a deployment runs: in processes on one machine, or in a Databricks workspace."""

_PREFIX = "CASPERS_"
_IN_ONE_RUNTIME: Mapping[str, Runtime] = MappingProxyType(
    {
        "refund_agent_endpoint_name": "workspace",
        "complaint_agent_endpoint_name": "workspace",
        "pipeline_id": "workspace",
        "warehouse_id": "workspace",
        "declared": "workspace",
        "declared_refunds": "workspace",
        "declared_complaints": "workspace",
        "schedule_minutes": "workspace",
        "pipeline_schedule_minutes": "workspace",
        "model_base_url": "local",
        "model_api": "local",
        "refund_agent_url": "local",
        "complaint_agent_url": "local",
    }
)
"""Parameters that have an effect in one runtime only."""


def _checked_name(value: str) -> str:
    """Unity Catalog's rule for names, which also keeps a volume's folder under ROOT."""
    if not re.fullmatch(r"[^/.\s\x00-\x1f\x7f]+", value):
        raise PydanticCustomError(
            "name",
            "a name has at least one character and no slash, dot, space or control character",
        )
    return value


_Name = Annotated[str, AfterValidator(_checked_name)]


class Settings(BaseModel):
    """Every parameter with its default.

    Args:
        catalog: Unity Catalog name, and the folder of the volumes on a laptop.
        simulator_schema: schema of the dimensions and of the volumes `events` and `misc`.
        events_volume: volume that receives the events.
        start_day: dataset day that falls on the day of the first run.
        speed_multiplier: virtual seconds a wall-clock second; a changed one counts from the next
            run on.
        events_layout: JSON lines in few files, or a file per event.
        schedule_minutes: wall-clock minutes between replays.
        pipeline_schedule_minutes: wall-clock minutes between updates of the pipeline; 0 is one
            right after the other.
        llm_model: name of the foundation model.
        refund_agent_endpoint_name: Model Serving endpoint of the refund agent.
        complaint_agent_endpoint_name: Model Serving endpoint of the complaint agent.
        complaint_rate: share of delivered orders that complain, 0 to 1.
        model_base_url: OpenAI-compatible endpoint that answers as `llm_model`; empty for the
            rules alone. Its key is the environment's `CASPERS_MODEL_API_KEY` and nowhere else.
        model_api: which of its two APIs is spoken.
        model_questions: questions asked in one batch.
        model_calls_a_day: calls in one UTC day, for each agent.
        model_concurrency: requests in flight at most; `ai_query` spreads its own.
        model_fallback: what an order gets that the model did not get to: the rules' answer, or
            nothing yet; it is asked about again either way.
        refund_agent_url: a served refund agent, asked instead; empty for none.
        complaint_agent_url: a served complaint agent, asked instead; empty for none.
        target: which tasks are deployed, see `task_graph.TARGETS`.
        dataset: an events file of one's own, with its dimensions beside it; in a workspace
            `/Volumes/catalog/schema/volume/...`. Empty for the generated one.
        dataset_scale: orders of the generated dataset, as a share of the full one.
        pipeline_id: the declarative pipeline in the workspace; the bundle knows it.
        warehouse_id: SQL warehouse of the served agents' look-ups, and of the account of
            resources where there is no Spark; empty for none.
        declared: what the bundle made, pairs such as `jobs.replay=123`; the bundle tells it.
        declared_refunds: the same, for refunds.
        declared_complaints: the same, for complaints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    catalog: _Name = "caspersdev"
    simulator_schema: _Name = "simulator"
    events_volume: _Name = "events"
    start_day: int = Field(70, ge=0)
    speed_multiplier: float = Field(60.0, gt=0, allow_inf_nan=False)
    events_layout: Literal["batched", "per_event"] = "batched"
    schedule_minutes: int = Field(3, ge=1)
    pipeline_schedule_minutes: int = Field(0, ge=0)
    llm_model: str = Field("databricks-meta-llama-3-3-70b-instruct", min_length=1)
    refund_agent_endpoint_name: str = Field("caspers_refund_agent", min_length=1)
    complaint_agent_endpoint_name: str = Field("caspers_complaint_agent", min_length=1)
    complaint_rate: float = Field(0.15, ge=0, le=1)
    model_base_url: str = ""
    model_api: Literal["chat", "responses"] = "chat"
    model_questions: int = Field(1_000, ge=1)
    model_calls_a_day: int = Field(10_000, ge=0)
    model_concurrency: int = Field(16, ge=1)
    model_fallback: Literal["rules", "pending"] = "rules"
    refund_agent_url: str = ""
    complaint_agent_url: str = ""
    target: TargetName = "default"
    dataset: str = ""
    dataset_scale: float = Field(1.0, gt=0, le=100)
    pipeline_id: str = ""
    warehouse_id: str = ""
    declared: str = ""
    declared_refunds: str = ""
    declared_complaints: str = ""


def load_settings(
    explicit: Mapping[str, object] | None = None,
    *,
    parameters: Mapping[str, str] | None = None,
    environment: Mapping[str, str] = os.environ,
    runtime: Runtime | None = None,
) -> Settings:
    """The settings, each from the first source that names it.

    Args:
        explicit: arguments by field name; None values don't count.
        parameters: job parameters or widgets, by upper-case name (`START_DAY`).
        environment: variables `CASPERS_START_DAY` and so on.
        runtime: where they are to have their effect; None takes parameters of any runtime.

    Raises:
        SettingsError: a value is not allowed, an explicit name is unknown, or a parameter that was
            given has no effect in the runtime.
    """
    values: dict[str, object] = {}
    for name in Settings.model_fields:
        upper = name.upper()
        for source, key in ((environment, _PREFIX + upper), (parameters or {}, upper)):
            if source.get(key, "") != "":
                values[name] = source[key]
    values.update({k: v for k, v in (explicit or {}).items() if v is not None})
    if runtime is not None:
        _refuse_without_effect(values, runtime)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise _settings_error(error) from error


def parameters_of(runtime: Runtime) -> tuple[str, ...]:
    """Names of the settings that have an effect in a runtime."""
    return tuple(n for n in Settings.model_fields if _IN_ONE_RUNTIME.get(n, runtime) == runtime)


def _refuse_without_effect(given: Mapping[str, object], runtime: Runtime) -> None:
    for name in given.keys() & Settings.model_fields.keys() - set(parameters_of(runtime)):
        here, there = "on a laptop", "in a workspace"
        if runtime == "workspace":
            here, there = there, here
        raise SettingsError(
            f"{name.upper()} is {given[name]!r}: it has no effect {here}, only {there}",
            hint=f"unset {_PREFIX}{name.upper()}",
        )


def _settings_error(error: ValidationError) -> SettingsError:
    first = error.errors()[0]
    name = str(first["loc"][0]).upper()
    rule = first["msg"][0].lower() + first["msg"][1:]
    return SettingsError(
        f"{name} is {first['input']!r}: {rule}",
        hint=f"set it by argument, job parameter or {_PREFIX}{name}",
    )
