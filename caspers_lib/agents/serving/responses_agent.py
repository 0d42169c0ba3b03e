"""An agent as mlflow knows agents: OpenAI's Responses format around `agent_logic`.

Loading this module loads mlflow. A reply without an answer is a failed response with its reason;
no exception leaves `predict`.
"""

import logging
import time
from collections.abc import Callable, Generator
from uuid import uuid4

from caspers_lib.agents.serving.agent_logic import AgentLogic, AgentReply
from caspers_lib.agents.serving.quiet_mlflow import (
    Message,
    ResponsesAgent,
    ResponsesAgentRequest,
    ResponsesAgentResponse,
    ResponsesAgentStreamEvent,
)

__all__ = ["INVALID_REQUEST", "SERVER_ERROR", "CaspersResponsesAgent"]

logger = logging.getLogger(__name__)

INVALID_REQUEST = "invalid_request"
"""Code of a failed response whose request can't be answered."""

SERVER_ERROR = "server_error"
"""Code of a failed response that a defect of this library is to blame for."""


class CaspersResponsesAgent(ResponsesAgent):
    """One agent; its logic is handed in.

    Args:
        logic: answers a request's last user message.
        clock: UTC epoch seconds.
        new_id: a new unique text, for a response's and a message's id.
    """

    def __init__(
        self,
        logic: AgentLogic,
        *,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self._logic = logic
        self._clock = clock
        self._new_id = new_id

    # mlflow's own `ResponsesAgent` departs from its base class in the same way.
    def predict(self, request: ResponsesAgentRequest) -> ResponsesAgentResponse:  # type: ignore[override]
        """The response to a request.

        Args:
            request: its last user message is what is asked; the rest says nothing to the agent.

        Returns:
            A completed response whose text is the answer as JSON, or a failed one with the reason.
            `custom_outputs` say who answered, a note for people, and `in_models_place` where
            the rules answered because the model did not.
        """
        reply, error = self._reply(request)
        said_by: dict[str, object] = {"answered_by": reply.answered_by}
        if reply.answer is None:
            # The reason comes first: people see the beginning of a failed response.
            return ResponsesAgentResponse(
                error=error, status="failed", output=[], custom_outputs=said_by
            )
        return ResponsesAgentResponse(
            id=f"resp_{self._new_id()}",
            created_at=self._clock(),
            model=f"caspers_{self._logic.kind}_agent",
            status="completed",
            output=[self._message(reply.answer)],
            usage=_usage(reply),
            custom_outputs=said_by
            | ({"note": reply.note} if reply.note else {})
            | ({"in_models_place": True} if reply.in_models_place else {}),
        )

    def predict_stream(  # type: ignore[override]
        self, request: ResponsesAgentRequest
    ) -> Generator[ResponsesAgentStreamEvent, None, None]:
        """The same response as events: the text in one piece, then its message.

        Args:
            request: as for `predict`.
        """
        reply, error = self._reply(request)
        if reply.answer is None:
            yield ResponsesAgentStreamEvent(type="error", **(error or {}))
            return
        message = self._message(reply.answer)
        yield ResponsesAgentStreamEvent(
            type="response.output_text.delta", item_id=message["id"], delta=reply.answer
        )
        yield ResponsesAgentStreamEvent(type="response.output_item.done", item=message)

    def _reply(self, request: ResponsesAgentRequest) -> tuple[AgentReply, dict[str, str] | None]:
        """The reply, and the error where it has no answer."""
        text = _last_user_text(request)
        if text is None:
            return _failure("The request has no message with role user and a text", INVALID_REQUEST)
        try:
            reply = self._logic.reply(text)
        except Exception as error:
            kind = type(error).__name__
            logger.warning("a request failed with %s", kind, exc_info=error)
            return _failure(f"The agent failed with {kind}; its log says more", SERVER_ERROR)
        if reply.answer is None:
            return reply, {"code": INVALID_REQUEST, "message": reply.note or "There is no answer"}
        return reply, None

    def _message(self, answer: str) -> dict[str, object]:
        message: dict[str, object] = self.create_text_output_item(answer, f"msg_{self._new_id()}")
        return message | {"status": "completed"}


def _failure(reason: str, code: str) -> tuple[AgentReply, dict[str, str]]:
    reply = AgentReply(answer=None, answered_by="error", note=reason)
    return reply, {"code": code, "message": reason}


def _usage(reply: AgentReply) -> dict[str, object]:
    sent, written = reply.input_tokens, reply.output_tokens
    return {
        "input_tokens": sent,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": sent + written,
    }


def _last_user_text(request: ResponsesAgentRequest) -> str | None:
    """The text of the last message that a user wrote; None without one."""
    for said in reversed(request.input):
        if not isinstance(said, Message) or said.role != "user":
            continue
        content = said.content
        if isinstance(content, str):
            return content
        parts = (part if isinstance(part, dict) else part.model_dump() for part in content)
        texts = [part["text"] for part in parts if part.get("type") == "input_text"]
        return "".join(texts) if texts else None
    return None
