"""How far an agent's answers agree with what is right for the dataset's orders."""

from caspers_lib.agents.evaluation.case_answers import CaseAnswer
from caspers_lib.agents.evaluation.golden_complaints import GoldenComplaint
from caspers_lib.agents.evaluation.golden_set import GoldenOrder, Verdict, golden_orders
from caspers_lib.agents.evaluation.report import (
    EvaluationReport,
    evaluate_complaints,
    evaluate_refunds,
)

__all__ = [
    "CaseAnswer",
    "EvaluationReport",
    "GoldenComplaint",
    "GoldenOrder",
    "Verdict",
    "evaluate_complaints",
    "evaluate_refunds",
    "golden_orders",
]
