"""How agents ask a model, and what is made of its answers.

Importing this package alone loads neither Spark nor httpx: a name loads what it needs when it is
first used.
"""

from typing import TYPE_CHECKING

from caspers_lib._lazy import lazy_names

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

__getattr__ = lazy_names(
    __name__,
    {
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
    },
)
