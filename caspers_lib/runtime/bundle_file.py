"""A bundle's files, read and merged as a deployment would: one configuration for each target.

Contract: DESIGN section 9. Nothing is written and no workspace is asked.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caspers_lib.errors import SettingsError

if TYPE_CHECKING:
    from yaml.nodes import Node

__all__ = [
    "REFERENCE",
    "Bundle",
    "TargetConfig",
    "Yaml",
    "get_in",
    "is_path",
    "list_of",
    "mapping_of",
    "read_bundle",
    "strings_of",
    "texts_in",
]

Yaml = Any
"""Whatever a YAML document holds."""

REFERENCE = re.compile(r"\$\{([A-Za-z][\w-]*(?:\.[\w-]+)*)\}")
_PATHS = frozenset({"path", "notebook_path", "python_file", "source_code_path", "paths", "whl"})
_MERGED_BY = {"tasks": "task_key", "environments": "environment_key", "parameters": "name"}


@dataclass(frozen=True, slots=True)
class TargetConfig:
    """What one target deploys.

    Args:
        name: the target.
        config: the whole configuration with the target's own merged in; paths are relative to
            the bundle's folder.
        variables: each variable that has a value.
        declared: all variables of the bundle.
    """

    name: str
    config: dict[str, Yaml]
    variables: dict[str, Yaml]
    declared: frozenset[str]

    def resources(self, kind: str) -> dict[str, dict[str, Yaml]]:
        """The target's resources of a kind, such as `jobs`, by key."""
        found = mapping_of(get_in(self.config, "resources", kind))
        return {key: mapping_of(resource) for key, resource in found.items()}

    def resolved(self, value: Yaml) -> Yaml:
        """The value with each variable, name and literal field filled in; the rest stays."""
        return self._resolved(value, frozenset())

    def _resolved(self, value: Yaml, seen: frozenset[str]) -> Yaml:
        if isinstance(value, dict):
            return {key: self._resolved(inner, seen) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._resolved(inner, seen) for inner in value]
        if not isinstance(value, str):
            return value
        whole = REFERENCE.fullmatch(value)
        if whole:
            return self._named(whole, seen)
        return REFERENCE.sub(lambda found: str(self._named(found, seen)), value)

    def _named(self, found: re.Match[str], seen: frozenset[str]) -> Yaml:
        name = found[1]
        if name in seen:
            return found[0]
        head, _, rest = name.partition(".")
        if head == "var":
            known = self.variables.get(rest)
        elif name == "bundle.target":
            known = self.name
        else:
            known = get_in(self.config, *name.split("."))
        return found[0] if known is None else self._resolved(known, seen | {name})


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle with all that it includes.

    Args:
        folder: where databricks.yml lies.
        targets: what each target deploys, by name.
    """

    folder: Path
    targets: Mapping[str, TargetConfig]

    @property
    def counts(self) -> dict[str, int]:
        """How many resources of each kind the targets have together, the most first."""
        keys = {
            (kind, key)
            for target in self.targets.values()
            for kind in mapping_of(target.config.get("resources"))
            for key in target.resources(kind)
        }
        return dict(Counter(kind for kind, _ in sorted(keys)).most_common())


def read_bundle(folder: Path) -> Bundle:
    """The bundle in a folder; only its files are read.

    Args:
        folder: where databricks.yml lies.

    Raises:
        SettingsError: a file is missing or isn't YAML, or a section has the wrong shape.
    """
    root = _read_yaml(folder / "databricks.yml")
    merged = _placed(root, "")
    for pattern in strings_of(root.get("include")):
        files = sorted(folder.glob(pattern))
        if not files:
            raise SettingsError(
                f"{folder / 'databricks.yml'} includes {pattern}, which matches no file",
                hint="write the pattern relative to databricks.yml",
            )
        for file in files:
            inside = file.relative_to(folder).parent.as_posix()
            merged = _merged(merged, _placed(_read_yaml(file), inside))
    own = mapping_of(merged.get("targets"))
    return Bundle(folder, {name: _target(name, merged, mapping_of(own[name])) for name in own})


def _read_yaml(file: Path) -> dict[str, Yaml]:
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
        twice = _named_twice(yaml.compose(text, Loader=yaml.SafeLoader), set())
    except OSError as error:
        raise SettingsError(
            f"{file} can't be read: {error.strerror or error}",
            hint="name the folder of a databricks.yml",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        why = " ".join(str(getattr(error, "problem", None) or error).split())
        raise SettingsError(
            f"{file}{place} is not YAML: {why}", hint="indent with spaces, quote what has a colon"
        ) from error
    if twice is not None:
        line = twice.start_mark.line + 1
        raise SettingsError(
            f"{file} line {line} has {twice.value!r} a second time", hint="join the two"
        )
    if not isinstance(document, dict):
        raise SettingsError(f"{file} is no mapping", hint="a bundle's file begins with `bundle:`")
    return document


def _named_twice(node: "Node | None", seen: set[int]) -> "Node | None":
    """The first key that its mapping has already; YAML's reader would let the last one win."""
    if node is None or id(node) in seen or isinstance(node.value, str):
        return None
    seen.add(id(node))
    keys: set[object] = set()
    for item in node.value:
        pair: tuple[Node | None, Node] = item if isinstance(item, tuple) else (None, item)
        key, inner = pair
        if key is not None and isinstance(key.value, str):
            if key.value in keys:
                return key
            keys.add(key.value)
        found = _named_twice(inner, seen)
        if found is not None:
            return found
    return None


def _placed(value: Yaml, folder: str, key: str = "") -> Yaml:
    """The value with its paths relative to the bundle instead of to their own file."""
    try:
        if isinstance(value, dict):
            return {str(k): _placed(inner, folder, str(k)) for k, inner in value.items()}
        if isinstance(value, list):
            return [_placed(inner, folder, key) for inner in value]
    except RecursionError as error:
        raise SettingsError("the YAML holds itself", hint="an alias lies in its anchor") from error
    if isinstance(value, str) and is_path(key, value):
        return posixpath.normpath(posixpath.join(folder, value))
    return value


def _target(name: str, merged: dict[str, Yaml], own: dict[str, Yaml]) -> TargetConfig:
    declared = {key: _variable(value) for key, value in mapping_of(merged.get("variables")).items()}
    assigned = {key: _variable(value) for key, value in mapping_of(own.get("variables")).items()}
    values = {k: v for k, v in (declared | assigned).items() if v is not None}
    shared = {k: v for k, v in merged.items() if k not in {"targets", "variables"}}
    own = {k: v for k, v in own.items() if k not in {"variables", "default"}}
    return TargetConfig(name, _merged(shared, own), values, frozenset(declared))


def _variable(value: Yaml) -> Yaml:
    if not isinstance(value, dict):
        return value
    return value.get("default", "<looked up>" if "lookup" in value else None)


def _merged(first: Yaml, second: Yaml, key: str = "") -> Yaml:
    if isinstance(first, dict) and isinstance(second, dict):
        both = {k: _merged(first[k], v, k) if k in first else v for k, v in second.items()}
        return first | both
    if isinstance(first, list) and isinstance(second, list):
        by = _MERGED_BY.get(key)
        there = [mapping_of(item).get(by) for item in first] if by else []
        joined, added = list(first), []
        for item in second:
            if by and mapping_of(item).get(by) in there:
                place = there.index(mapping_of(item)[by])
                joined[place] = _merged(joined[place], item)
            else:
                added.append(item)
        return joined + added
    return first if second is None else second


def is_path(place: str, text: str) -> bool:
    """Whether a text at a place, such as `tasks.a.notebook_path`, is a path of this machine."""
    key = re.sub(r"(\.\d+)+$", "", place).rpartition(".")[2]
    if key == "dependencies":
        return text.startswith(".")
    return key in _PATHS and not text.startswith(("/", "~", "$")) and "://" not in text


def mapping_of(value: Yaml) -> dict[str, Yaml]:
    """The mapping that a value is; an empty one for nothing.

    Raises:
        SettingsError: the value is something else.
    """
    if value is not None and not isinstance(value, dict):
        raise SettingsError(
            f"the bundle has {str(value)[:60]!r} where names and values belong",
            hint="write `name: value` lines, indented",
        )
    return value or {}


def list_of(value: Yaml) -> list[Yaml]:
    """The list that a value is; an empty one for nothing.

    Raises:
        SettingsError: the value is something else.
    """
    if value is not None and not isinstance(value, list):
        raise SettingsError(
            f"the bundle has {str(value)[:60]!r} where a list belongs", hint="begin lines with `- `"
        )
    return value or []


def strings_of(value: Yaml) -> list[str]:
    """The texts of a list."""
    return [str(item) for item in list_of(value)]


def get_in(value: Yaml, *keys: str) -> Yaml:
    """What lies in nested mappings under these keys; None for nothing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def texts_in(value: Yaml, where: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a configuration with its place; tasks and the like go by their key."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from texts_in(inner, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            names = (get_in(inner, key) for key in _MERGED_BY.values())
            name = next((n for n in names if n is not None), number)
            yield from texts_in(inner, f"{where}.{name}")
    elif isinstance(value, str):
        yield where, value
