"""Brings an agent to Model Serving: logged from code, registered in Unity Catalog, served.

Nothing of it was tried on a workspace. Logging and loading are tested with mlflow itself on a local
store; the registry and the endpoints are stand-ins that refuse whatever they don't know.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import caspers_lib
from caspers_lib.agents.model.endpoint_names import checked_endpoint_name
from caspers_lib.agents.model.excerpts import excerpt
from caspers_lib.agents.serving.agent_logic import AgentKind
from caspers_lib.agents.serving.order_lookup import LOOKUP_TOOLS
from caspers_lib.agents.tables import AGENT_TABLES, AgentTables
from caspers_lib.agents.tools import AI_SCHEMA
from caspers_lib.errors import CaspersError, SettingsError, first_cause
from caspers_lib.workspace_calls import explained

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.serving import ServedEntityInput

__all__ = [
    "AgentResources",
    "DeployedAgent",
    "agent_model_name",
    "log_and_deploy",
    "register_agent",
    "serve_agent",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentResources:
    """What of the workspace a served agent uses; it is declared, so that the agent may.

    Args:
        model_endpoint: serving endpoint of the model that answers; None for the rules alone.
        warehouse_id: SQL warehouse through which orders are looked up; None if requests bring
            their facts.
        tools_schema: schema of the SQL tools, in the agent's catalog.
        tables: the tables that the tools read.

    Raises:
        SettingsError: the endpoint's name is none, or the warehouse's id is empty.
    """

    model_endpoint: str | None = None
    warehouse_id: str | None = None
    tools_schema: str = AI_SCHEMA
    tables: AgentTables = AGENT_TABLES

    def __post_init__(self) -> None:
        """Refuse names that mean nothing."""
        if self.model_endpoint is not None:
            checked_endpoint_name(self.model_endpoint)
        if self.warehouse_id is not None and not re.fullmatch("[A-Za-z0-9-]+", self.warehouse_id):
            raise SettingsError(
                f"warehouse_id is {excerpt(self.warehouse_id)}; it must be letters, digits, -"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedAgent:
    """An agent that is being served.

    Args:
        model: its name in Unity Catalog.
        version: the registered version.
        endpoint: the serving endpoint.
    """

    model: str
    version: str
    endpoint: str


def log_and_deploy(
    kind: AgentKind,
    *,
    endpoint_name: str,
    catalog: str,
    schema: str = AI_SCHEMA,
    resources: AgentResources | None = None,
    client: "WorkspaceClient | None" = None,
    mlflow: ModuleType | None = None,
    timeout: timedelta = timedelta(minutes=30),
) -> DeployedAgent:
    """Log an agent, register it as `catalog.schema.<kind>_agent`, and serve that version.

    An endpoint that exists gets the new version once it has finished what it is doing.

    Args:
        kind: which agent.
        endpoint_name: the serving endpoint, created or updated.
        catalog: catalog of the model and of what it uses.
        schema: schema of the model.
        resources: what the agent uses besides its rules; nothing if None.
        client: the workspace's client; the SDK's own way if None.
        mlflow: the module mlflow, or what stands in for it.
        timeout: how long the endpoint may take at most.

    Raises:
        SettingsError: a name is not allowed; nothing has been done.
        CaspersError: logging, registering or serving failed.
    """
    checked_endpoint_name(endpoint_name)
    model = agent_model_name(kind, catalog=catalog, schema=schema)
    registered = register_agent(
        kind, catalog=catalog, schema=schema, resources=resources, mlflow=mlflow
    )
    serve_agent(
        client or _workspace(), endpoint_name, model=model, version=registered, timeout=timeout
    )
    return DeployedAgent(model=model, version=registered, endpoint=endpoint_name)


def agent_model_name(kind: AgentKind, *, catalog: str, schema: str = AI_SCHEMA) -> str:
    """The agent's name in Unity Catalog.

    Args:
        kind: which agent.
        catalog: catalog of the model.
        schema: schema of the model.

    Raises:
        SettingsError: a name is not allowed.
    """
    return f"{_checked_name('catalog', catalog)}.{_checked_name('schema', schema)}.{kind}_agent"


def register_agent(
    kind: AgentKind,
    *,
    catalog: str,
    schema: str = AI_SCHEMA,
    resources: AgentResources | None = None,
    mlflow: ModuleType | None = None,
) -> str:
    """Log an agent with this very code and register it as a new version.

    Args:
        kind: which agent.
        catalog: catalog of the model and of what it uses.
        schema: schema of the model.
        resources: what the agent uses besides its rules; nothing if None.
        mlflow: the module mlflow, or what stands in for it.

    Returns:
        The registered version.

    Raises:
        SettingsError: a name is not allowed; nothing has been done.
        CaspersError: logging or registering failed.
    """
    model = agent_model_name(kind, catalog=catalog, schema=schema)
    return _log(mlflow or _mlflow(), kind, model, catalog, resources or AgentResources())


def serve_agent(
    client: "WorkspaceClient",
    endpoint_name: str,
    *,
    model: str,
    version: str,
    timeout: timedelta = timedelta(minutes=30),
) -> None:
    """Serve a registered version of an agent; an endpoint that exists gets it.

    Args:
        client: the workspace's client.
        endpoint_name: the serving endpoint, created or updated.
        model: the agent's name in Unity Catalog.
        version: the registered version.
        timeout: how long the endpoint may take at most.

    Raises:
        SettingsError: the endpoint's name is not allowed; nothing has been done.
        CaspersError: serving failed.
    """
    checked_endpoint_name(endpoint_name)
    _serve(client, endpoint_name, model, version, timeout)


# The keys of `prompts`' facts; nothing is known, so that a try of it asks no model.
_EXAMPLE_FACTS: Mapping[AgentKind, str] = {
    "refund": '{"order_id": "example", "location_id": null, "total_minutes": null,'
    ' "order_total": null, "history_orders": 0, "p75": null, "p99": null}',
    "complaint": '{"order_id": "example", "complaint_category": "other",'
    ' "complaint_text": "What happened?", "complaint_text_is_cut": false, "location_id": null,'
    ' "total_minutes": null, "order_total": null, "history_orders": 0, "p75": null,'
    ' "p99": null, "lines": null}',
}
_REQUIREMENTS = (
    "mlflow-skinny", "pandas", "numpy", "pydantic", "httpx", "databricks-sdk",
)  # fmt: skip


def _log(
    mlflow: ModuleType, kind: AgentKind, model: str, catalog: str, resources: AgentResources
) -> str:
    """Log and register the agent with this very code; the registered version."""
    package = Path(caspers_lib.__file__).parent
    mlflow.set_registry_uri("databricks-uc")
    try:
        info = mlflow.pyfunc.log_model(
            name=f"{kind}_agent",
            python_model=str(package / "agents" / "serving" / f"served_{kind}.py"),
            code_paths=[str(package)],
            model_config=_model_config(catalog, resources),
            resources=_declared(mlflow, catalog, resources),
            input_example={"input": [{"role": "user", "content": _EXAMPLE_FACTS[kind]}]},
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in _REQUIREMENTS],
            registered_model_name=model,
        )
    except mlflow.exceptions.MlflowException as error:
        raise CaspersError(
            f"The {kind} agent was not registered as {model}: {first_cause(error)}",
            hint="see that the schema exists and that you may create models in it",
        ) from error
    return str(info.registered_model_version)


def _model_config(catalog: str, resources: AgentResources) -> dict[str, str | None]:
    """What `served.served_logic` builds the agent from."""
    return {
        "model_endpoint": resources.model_endpoint,
        "warehouse_id": resources.warehouse_id,
        "catalog": catalog,
        "tools_schema": resources.tools_schema,
    }


def _declared(mlflow: ModuleType, catalog: str, resources: AgentResources) -> list[object]:
    kinds = mlflow.models.resources
    declared: list[object] = []
    if resources.model_endpoint:
        declared.append(kinds.DatabricksServingEndpoint(endpoint_name=resources.model_endpoint))
    if resources.warehouse_id:
        declared.append(kinds.DatabricksSQLWarehouse(warehouse_id=resources.warehouse_id))
        declared += [
            kinds.DatabricksFunction(function_name=f"{catalog}.{resources.tools_schema}.{tool}")
            for tool in LOOKUP_TOOLS
        ]
        declared += [
            kinds.DatabricksTable(table_name=name if name.count(".") == 2 else f"{catalog}.{name}")
            for name in (resources.tables.events, resources.tables.lines)
        ]
    return declared


# What the SDK says of its own waits.
_CURES = (
    ("failed to reach", "The endpoint's events say why; run this again once that is cured."),
    ("timed out after", "The endpoint's events may say why; run this again: it goes on waiting."),
)


def _serve(
    client: "WorkspaceClient", endpoint: str, model: str, registered: str, timeout: timedelta
) -> None:
    """Create the endpoint, or give an existing one the new version, and wait for it."""
    from databricks.sdk.errors.base import DatabricksError
    from databricks.sdk.errors.platform import NotFound, ResourceConflict
    from databricks.sdk.errors.sdk import OperationFailed
    from databricks.sdk.service.serving import EndpointCoreConfigInput, ServedEntityInput

    entity = ServedEntityInput(
        entity_name=model,
        entity_version=registered,
        workload_size="Small",
        scale_to_zero_enabled=True,
    )
    endpoints = client.serving_endpoints
    try:
        try:
            endpoints.get(endpoint)
        except NotFound:
            # Its name is for an update alone: a new endpoint has one beside its configuration.
            config = EndpointCoreConfigInput.from_dict({"served_entities": [entity.as_dict()]})
            try:
                endpoints.create_and_wait(endpoint, config=config, timeout=timeout)
            except ResourceConflict:  # somebody made it in the meantime
                _update(client, endpoint, entity, timeout)
        else:
            _update(client, endpoint, entity, timeout)
    except (DatabricksError, OperationFailed, TimeoutError) as error:
        what = f"The endpoint {endpoint} does not serve {model} version {registered}"
        raise explained(what, error, cures=_CURES) from error


def _update(
    client: "WorkspaceClient", endpoint: str, entity: "ServedEntityInput", timeout: timedelta
) -> None:
    from databricks.sdk.errors.sdk import OperationFailed

    endpoints = client.serving_endpoints
    # Should an earlier update have failed, this one takes its place.
    with suppress(OperationFailed):
        endpoints.wait_get_serving_endpoint_not_updating(endpoint, timeout=timeout)
    endpoints.update_config_and_wait(endpoint, served_entities=[entity], timeout=timeout)


def _checked_name(what: str, name: str) -> str:
    """Unity Catalog's rule for names."""
    if not re.fullmatch(r"[^/.\s\x00-\x1f\x7f]+", name):
        raise SettingsError(
            f"{what} is {excerpt(name)}; a name has at least one character and no slash, dot,"
            " space or control character"
        )
    return name


def _mlflow() -> ModuleType:
    from caspers_lib.agents.serving.quiet_mlflow import mlflow

    return mlflow


def _workspace() -> "WorkspaceClient":
    from databricks.sdk import WorkspaceClient

    return WorkspaceClient()
