"""An agent as Model Serving runs it: built from the configuration that it was logged with.

Importing this module loads neither mlflow nor the workspace's SDK. The model's token comes from
the endpoint's own identity, which the declared resources grant, and is asked for anew each time.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, cast

from pydantic import SecretStr

from caspers_lib.agents.model.settings import ModelSettings
from caspers_lib.agents.model.thread import ModelThread
from caspers_lib.agents.serving.agent_logic import AgentKind, AgentLogic, agent_logic
from caspers_lib.agents.serving.order_lookup import WarehouseLookup
from caspers_lib.errors import CaspersError, first_cause

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

__all__ = ["ClientMaker", "endpoint_settings", "served_logic", "set_served_model"]

ClientMaker = Callable[[], "WorkspaceClient"]
"""Makes the workspace's client; called when one is needed."""

# What holds where the file is run without being logged; mlflow takes an empty one for none.
_RULES: dict[str, object] = {"model_endpoint": None}


def set_served_model(kind: AgentKind) -> None:
    """Hand mlflow the agent, from within the file that it loads.

    Args:
        kind: which agent.
    """
    from caspers_lib.agents.serving.quiet_mlflow import mlflow
    from caspers_lib.agents.serving.responses_agent import CaspersResponsesAgent

    config = mlflow.models.ModelConfig(development_config=_RULES).to_dict()  # type: ignore[no-untyped-call]
    mlflow.models.set_model(CaspersResponsesAgent(served_logic(kind, config)))


def served_logic(
    kind: AgentKind, config: Mapping[str, object], *, client: ClientMaker | None = None
) -> AgentLogic:
    """The agent that a configuration describes.

    Args:
        kind: which agent.
        config: `model_endpoint` for a model; `warehouse_id`, `catalog` and `tools_schema` for
            looking orders up; without them the rules and facts alone.
        client: makes the workspace's client; the SDK's own way if None.
    """
    client = client or _workspace
    endpoint, warehouse = config.get("model_endpoint"), config.get("warehouse_id")
    ask = facts_of = None
    if endpoint:
        ask = ModelThread(lambda: endpoint_settings(str(endpoint), client()))
    if warehouse:
        facts_of = WarehouseLookup(
            client=client,
            warehouse_id=str(warehouse),
            catalog=str(config["catalog"]),
            schema=str(config["tools_schema"]),
        )
    return agent_logic(kind, facts_of=facts_of, ask=ask)


def endpoint_settings(endpoint: str, client: "WorkspaceClient") -> ModelSettings:
    """How a serving endpoint of the workspace is asked, with a token that is valid now.

    Args:
        endpoint: the endpoint's name.
        client: the workspace's client.

    Raises:
        CaspersError: the workspace gives no token.
    """
    from databricks.sdk.errors.base import DatabricksError

    try:
        headers = cast("Mapping[str, str]", client.config.authenticate())
    except (DatabricksError, ValueError) as error:
        raise _no_access(error) from error
    token = headers["Authorization"].removeprefix("Bearer ")
    return ModelSettings(
        base_url=f"{str(client.config.host).rstrip('/')}/serving-endpoints",
        model=endpoint,
        api_key=SecretStr(token),
    )


@cache
def _workspace() -> "WorkspaceClient":
    from databricks.sdk import WorkspaceClient

    try:
        return WorkspaceClient()
    except ValueError as error:
        raise _no_access(error) from error


def _no_access(error: Exception) -> CaspersError:
    return CaspersError(
        f"The workspace gives no access to its endpoints: {first_cause(error)}",
        hint="log in again; a served agent declares what it uses when it is logged",
    )
