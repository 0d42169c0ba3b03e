"""Agents that recommend refunds and answer complaints: rules, streams and SQL tools.

Contract: docs/contracts.md, Agents. `agents.model` asks a model, `agents.serving` answers single
requests, `agents.evaluation` says how right an agent is. Importing this package alone loads nothing
heavy: a name loads what it needs when it is first used.
"""

from typing import TYPE_CHECKING

from caspers_lib._lazy import lazy_names

if TYPE_CHECKING:
    from caspers_lib.agents.contracts import ComplaintAnswer, RefundAnswer
    from caspers_lib.agents.facts import order_facts
    from caspers_lib.agents.refund_policy import OrderFacts, RefundPolicy, refund_answer
    from caspers_lib.agents.refund_rules import refund_answers
    from caspers_lib.agents.streams import (
        complaint_batch_handler,
        refund_batch_handler,
        response_batch_handler,
        run_complaint_stream,
        run_refund_stream,
        run_response_stream,
    )
    from caspers_lib.agents.tables import AGENT_TABLES, AgentTables, ensure_tables
    from caspers_lib.agents.tools import create_tools
    from caspers_lib.agents.triage import complaint_responses
    from caspers_lib.agents.triage_answer import Complaint, complaint_answer
    from caspers_lib.agents.triage_policy import TriagePolicy

__all__ = [
    "AGENT_TABLES",
    "AgentTables",
    "Complaint",
    "ComplaintAnswer",
    "OrderFacts",
    "RefundAnswer",
    "RefundPolicy",
    "TriagePolicy",
    "complaint_answer",
    "complaint_batch_handler",
    "complaint_responses",
    "create_tools",
    "ensure_tables",
    "order_facts",
    "refund_answer",
    "refund_answers",
    "refund_batch_handler",
    "response_batch_handler",
    "run_complaint_stream",
    "run_refund_stream",
    "run_response_stream",
]

__getattr__ = lazy_names(
    __name__,
    {
        "AGENT_TABLES": "tables",
        "AgentTables": "tables",
        "Complaint": "triage_answer",
        "ComplaintAnswer": "contracts",
        "OrderFacts": "refund_policy",
        "RefundAnswer": "contracts",
        "RefundPolicy": "refund_policy",
        "TriagePolicy": "triage_policy",
        "complaint_answer": "triage_answer",
        "complaint_batch_handler": "streams",
        "complaint_responses": "triage",
        "create_tools": "tools",
        "ensure_tables": "tables",
        "order_facts": "facts",
        "refund_answer": "refund_policy",
        "refund_answers": "refund_rules",
        "refund_batch_handler": "streams",
        "response_batch_handler": "streams",
        "run_complaint_stream": "streams",
        "run_refund_stream": "streams",
        "run_response_stream": "streams",
    },
)
