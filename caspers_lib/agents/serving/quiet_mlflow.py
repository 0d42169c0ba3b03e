"""What the agents need of mlflow, imported without its warnings and without its reports home.

Loading this module loads mlflow: two seconds or more. Where nobody loaded it before, mlflow then
sends no usage data and writes no installation id in this process.
"""

import os
import warnings

_TELEMETRY = "MLFLOW_DISABLE_TELEMETRY"
_before = os.environ.get(_TELEMETRY)

with warnings.catch_warnings():
    # It warns about types of its own, which is nothing that a user could cure.
    warnings.simplefilter("ignore")
    os.environ[_TELEMETRY] = "true"
    try:
        import mlflow
        from mlflow.genai import agent_server
        from mlflow.pyfunc.model import ResponsesAgent
        from mlflow.types.responses import (
            ResponsesAgentRequest,
            ResponsesAgentResponse,
            ResponsesAgentStreamEvent,
        )
        from mlflow.types.responses_helpers import Message
    finally:
        if _before is None:
            del os.environ[_TELEMETRY]
        else:
            os.environ[_TELEMETRY] = _before

__all__ = [
    "Message",
    "ResponsesAgent",
    "ResponsesAgentRequest",
    "ResponsesAgentResponse",
    "ResponsesAgentStreamEvent",
    "agent_server",
    "mlflow",
]
