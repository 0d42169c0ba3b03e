"""How agents ask a model, and what is made of its answers.

The names below load what they need when they are first used: importing this package alone loads
neither Spark nor httpx.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caspers_lib.agents.model.answers import ModelAnswers
    from caspers_lib.agents.model.askers import AiQueryAsker, HttpAsker
    from caspers_lib.agents.model.asking import AnsweredQuestion, Question, answer_questions
    from caspers_lib.agents.model.client import ModelClient
    from caspers_lib.agents.model.complaint_writer import ComplaintWriter
    from caspers_lib.agents.model.settings import Limits, Message, ModelSettings
    from caspers_lib.agents.model.thread import ModelThread

__all__ = [
    "AiQueryAsker",
    "AnsweredQuestion",
    "ComplaintWriter",
    "HttpAsker",
    "Limits",
    "Message",
    "ModelAnswers",
    "ModelClient",
    "ModelSettings",
    "ModelThread",
    "Question",
    "answer_questions",
]

_MODULES = {
    "AiQueryAsker": "askers",
    "AnsweredQuestion": "asking",
    "ComplaintWriter": "complaint_writer",
    "HttpAsker": "askers",
    "Limits": "settings",
    "Message": "settings",
    "ModelAnswers": "answers",
    "ModelClient": "client",
    "ModelSettings": "settings",
    "ModelThread": "thread",
    "Question": "asking",
    "answer_questions": "asking",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - each name has a type of its own, see above
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
