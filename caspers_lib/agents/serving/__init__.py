"""One agent's logic for one request, in process, behind a web server and on Model Serving."""

from caspers_lib.agents.serving.agent_logic import AgentReply, ComplaintAgent, RefundAgent
from caspers_lib.agents.serving.app import agent_app
from caspers_lib.agents.serving.deployment import AgentResources, DeployedAgent, log_and_deploy
from caspers_lib.agents.serving.order_lookup import SparkLookup, WarehouseLookup

__all__ = [
    "AgentReply",
    "AgentResources",
    "ComplaintAgent",
    "DeployedAgent",
    "RefundAgent",
    "SparkLookup",
    "WarehouseLookup",
    "agent_app",
    "log_and_deploy",
]
