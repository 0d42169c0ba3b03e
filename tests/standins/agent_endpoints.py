"""What answers at a workspace's serving endpoints: the agents as they were logged, and a model."""

import json
import re
from collections.abc import Callable
from typing import Any

from databricks.sdk import WorkspaceClient

from caspers_lib.agents.serving.agent_logic import AgentKind
from caspers_lib.agents.serving.quiet_mlflow import ResponsesAgentRequest
from caspers_lib.agents.serving.responses_agent import CaspersResponsesAgent
from caspers_lib.agents.serving.served import served_logic
from tests.workspace_fake.requests import Document, Refused

MODEL = "databricks-meta-llama-3-3-70b-instruct"

# The stand-in takes what the platform's function takes, by name, and nothing else.
AI_QUERY = f"""
CREATE OR REPLACE TEMPORARY FUNCTION ai_query(
  endpoint STRING, request STRING, modelParameters STRUCT<max_tokens: INT, temperature: DOUBLE>,
  failOnError BOOLEAN)
RETURNS STRUCT<response: STRING, errorMessage: STRING>
RETURN CASE WHEN endpoint <> '{MODEL}' OR failOnError
  THEN named_struct('response', CAST(NULL AS STRING), 'errorMessage', 'bad call')
  ELSE named_struct('response', 'The model complains.', 'errorMessage', CAST(NULL AS STRING)) END"""


class AgentEndpoints:
    """The model behind each endpoint, for `Serving.invoke`.

    Args:
        client: of the workspace; the agents' own.
        configs: what each registered model was logged with.
    """

    def __init__(self, client: WorkspaceClient, configs: dict[str, dict[str, Any]]) -> None:
        self.client = client
        self.configs = configs
        self.is_down = False
        self.asked: list[str] = []  # the orders that the model answered about
        self._agents: dict[str, CaspersResponsesAgent] = {}

    def recover(self) -> None:
        """Let the model answer again; new agents don't wait until a circuit breaker closes."""
        self.is_down = False
        self._agents.clear()

    def __call__(self, name: str, body: Document) -> Document:
        if name == MODEL:
            return self._model(body)
        config = self.client.serving_endpoints.get(name).config
        assert config
        assert config.served_entities
        model = config.served_entities[0].entity_name or ""
        if model not in self._agents:
            self._agents[model] = self._agent(model)
        known = {key: value for key, value in body.items() if key != "model"}
        return self._agents[model].predict(ResponsesAgentRequest(**known)).model_dump()

    def _agent(self, model: str) -> CaspersResponsesAgent:
        found = re.search("(refund|complaint)_agent$", model)
        assert found
        kind: AgentKind = "refund" if found[1] == "refund" else "complaint"
        maker: Callable[[], WorkspaceClient] = lambda: self.client  # noqa: E731
        return CaspersResponsesAgent(served_logic(kind, self.configs[model], client=maker))

    def _model(self, body: Document) -> Document:
        if self.is_down:
            raise Refused(503, "TEMPORARILY_UNAVAILABLE", "The model is down")
        facts = json.loads(body["messages"][-1]["content"])
        self.asked.append(facts["order_id"])
        answer: Document = {"refund_usd": 0, "refund_class": "none", "reason": "By the model."}
        if "complaint_text" in facts:
            answer = {
                "order_id": facts["order_id"], "complaint_category": "other",
                "decision": "escalate", "credit_amount": None, "confidence": None,
                "priority": "high", "rationale": "By the model.", "customer_response": "Hello.",
            }  # fmt: skip
        message = {"role": "assistant", "content": json.dumps(answer)}
        return {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20},
        }
