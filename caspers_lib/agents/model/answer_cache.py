"""Answers that were paid for, as files: asked again, the same question costs nothing.

A file's name is a hash of everything that the answer depends on; it holds the text and its tokens,
and no question or key. Files appear whole, so that any number of processes may share a folder.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

__all__ = ["AnswerCache", "CachedAnswer", "cache_key"]

_VERSION = 1
_MAX_BYTES = 1_000_000  # as many as a model's response may have, and more than an answer has
_SHARD_CHARS = 2


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """What a model wrote, and what that took.

    Args:
        text: its text.
        input_tokens: tokens of the question, a repair included.
        output_tokens: tokens of the answer, a repair included.
    """

    text: str
    input_tokens: int
    output_tokens: int


def cache_key(facts: Mapping[str, object]) -> str:
    """The name of an answer: a hash of what it depends on.

    Args:
        facts: the messages, the model, its settings, the schema's name and so on; JSON values.

    Returns:
        64 hexadecimal digits, the same for the same facts in whatever order.
    """
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


class AnswerCache:
    """A folder of answers.

    Args:
        folder: where they lie; made when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> CachedAnswer | None:
        """The answer of that name, or None.

        A file that can't be read is removed: the question is then asked again.
        """
        path = self._path(key)
        try:
            with path.open("rb") as file:
                return _answer(file.read(_MAX_BYTES + 1))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            self.remove(key)
            return None

    def put(self, key: str, answer: CachedAnswer) -> None:
        """Keep an answer.

        Raises:
            OSError: the folder can't be written.
        """
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "version": _VERSION,
            "text": answer.text,
            "input_tokens": answer.input_tokens,
            "output_tokens": answer.output_tokens,
        }
        aside = path.with_name(f".{key}.{uuid4().hex}.tmp")
        try:
            aside.write_text(json.dumps(document), encoding="ascii")
            aside.replace(path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise

    def remove(self, key: str) -> None:
        """Forget an answer, if that is possible."""
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError:
            return  # it stays, and stays unread

    def _path(self, key: str) -> Path:
        return self._folder / key[:_SHARD_CHARS] / f"{key}.json"


def _answer(written: bytes) -> CachedAnswer:
    """The answer in a file.

    Raises:
        ValueError, KeyError, TypeError, RecursionError: it isn't one.
    """
    if len(written) > _MAX_BYTES:
        raise ValueError("it is too long")
    document = json.loads(written)
    text, counts = document["text"], (document["input_tokens"], document["output_tokens"])
    whole = all(type(count) is int and count >= 0 for count in counts)
    if not (document["version"] == _VERSION and isinstance(text, str) and whole):
        raise ValueError("it is no answer of this version")
    return CachedAnswer(text, *counts)
