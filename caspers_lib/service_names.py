"""Names that services take, made of any text: readable, fixed for ever, each text its own.

A text that is a valid name already stays as it is. Any other keeps what can be read of it and gets
eight hex digits of the SHA-256 of the whole. Where a service doesn't tell capitals from small
letters, a text with capitals is no valid name, so that no two names differ by case alone.
"""

import hashlib
import re
from dataclasses import dataclass

from caspers_lib.errors import SettingsError

__all__ = [
    "LAKEBASE_CATALOG",
    "MAX_DISPLAY_NAME_CHARS",
    "PROJECT_ID",
    "UNITY_CATALOG_NAME",
    "app_name",
    "endpoint_name",
    "lakebase_catalog",
    "project_id",
    "uc_name",
]

MAX_DISPLAY_NAME_CHARS = 256
"""Longest display name of a Lakebase project."""

PROJECT_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")
"""What is an id of a Lakebase project."""

LAKEBASE_CATALOG = re.compile(r"[A-Za-z0-9_-]{1,255}")
"""What is a name of a Lakebase catalog, in any case."""

UNITY_CATALOG_NAME = re.compile(r"[^/.\s\x00-\x1f\x7f\ud800-\udfff]{1,255}")
"""What is a name of an object in Unity Catalog, in any case."""

_DIGEST_CHARS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service:
    """What names a service takes.

    Args:
        valid: what is a name.
        longest: characters of the longest name.
        stem: begins the name of a text that has nothing to begin one with.
        joiner: stands for what a name can't have, and before the digest.
        begins: what a name begins with.
        kept: the characters that are kept of a text that is no name.
        is_lower: whether the service takes or keeps small letters only.
    """

    valid: re.Pattern[str]
    longest: int
    stem: str
    joiner: str = "-"
    begins: str = "[a-z0-9]"
    kept: str = "a-z0-9"
    is_lower: bool = True

    def name(self, text: str) -> str:
        """A name of the text's own."""
        if self.valid.fullmatch(text) and (not self.is_lower or _has_one_case(text)):
            return text
        readable = text.lower() if self.is_lower else text
        readable = re.sub(f"[^{self.kept}]+", self.joiner, readable).strip("-_")
        if not re.match(self.begins, readable):
            readable = f"{self.stem}{self.joiner}{readable}".rstrip("-_")
        begin = readable[: self.longest - _DIGEST_CHARS - len(self.joiner)].rstrip("-_")
        return f"{begin}{self.joiner}{_digest(text)}"


_PROJECT = _Service(valid=PROJECT_ID, longest=63, stem="project", begins="[a-z]")
_APP = _Service(valid=re.compile(r"[a-z0-9][a-z0-9-]{0,28}[a-z0-9]"), longest=30, stem="app")
_ENDPOINT = _Service(
    valid=re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"),
    longest=63,
    stem="endpoint",
    begins="[A-Za-z0-9]",
    kept="A-Za-z0-9_",
    is_lower=False,
)
_CATALOG = _Service(valid=LAKEBASE_CATALOG, longest=255, stem="catalog", joiner="_")
_OBJECT = _Service(valid=UNITY_CATALOG_NAME, longest=255, stem="object", joiner="_")


def project_id(name: str) -> str:
    """The id of a Lakebase project with that name.

    Args:
        name: any text of 1 to 256 characters.

    Returns:
        The name itself if it is an id; otherwise what is left of it and a digest of the whole, so
        that two names get two ids.

    Raises:
        SettingsError: the name is blank or too long to be shown.
    """
    if not name.strip() or len(name) > MAX_DISPLAY_NAME_CHARS:
        raise SettingsError(
            f"A project's name has {len(name)} characters or is blank: {name[:40]!a}.",
            hint=f"Choose a name of 1 to {MAX_DISPLAY_NAME_CHARS} characters.",
        )
    return _PROJECT.name(name)


def app_name(text: str) -> str:
    """The name of a Databricks app: 2 to 30 small letters, digits and hyphens.

    Args:
        text: any text.
    """
    return _APP.name(text)


def endpoint_name(text: str) -> str:
    """The name of a Model Serving endpoint: 1 to 63 letters, digits, hyphens and underscores.

    Args:
        text: any text.
    """
    return _ENDPOINT.name(text)


def lakebase_catalog(text: str) -> str:
    """The name of a Lakebase catalog: small letters, digits, underscores and hyphens.

    Args:
        text: any text.
    """
    return _CATALOG.name(text)


def uc_name(text: str) -> str:
    """The name of an object in Unity Catalog, which keeps names in lower case.

    Args:
        text: any text; a name that has to be quoted in SQL stays one.
    """
    return _OBJECT.name(text)


def _has_one_case(text: str) -> bool:
    # Also the few small letters that share a capital with another one.
    return text.upper().lower() == text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
