"""A bundle's configuration for one target: merged, and resolved as far as files tell.

Paths of this machine become those in the workspace. References to resources stay: a deployment
alone knows their ids.
"""

import os.path
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Body", "ConfigurationError", "Target", "read_target", "references", "replaced"]

Body = dict[str, Any]
USER = "me@example.com"
_REFERENCE = re.compile(r"\$\{([A-Za-z][\w-]*(?:\.[\w-]+)+)\}")
_MERGED_BY = {"tasks": "task_key", "environments": "environment_key", "parameters": "name"}
_PATHS = {"notebook_path", "source_code_path", "path", "file_path", "dependencies"}


class ConfigurationError(Exception):
    """A deployment would be refused before anything changes."""


@dataclass(frozen=True)
class Target:
    """What one target deploys.

    Args:
        root: its folder in the workspace.
        variables: each with its value.
        resources: bodies by kind, then by key.
        uploads: files of this machine by their paths in the workspace.
    """

    root: str
    variables: dict[str, Any]
    resources: dict[str, dict[str, Body]]
    uploads: dict[str, Path]

    def settled(self, kind: str, key: str) -> Body:
        """A resource with what others declare in place of references to it; ids stay.

        Args:
            kind: its kind.
            key: its key.
        """

        def look(reference: str) -> Any:
            _, other, name, field = reference.split(".")
            body = self.resources[other][name]
            return replaced(body[field], look) if field in body else f"${{{reference}}}"

        return {name: replaced(value, look) for name, value in self.resources[kind][key].items()}


def read_target(
    folder: Path, name: str, variables: Mapping[str, str], wheel: Path | None = None
) -> Target:
    """What `databricks bundle deploy -t NAME --var ...` reads.

    Args:
        folder: where databricks.yml lies.
        name: the target.
        variables: those that are given.
        wheel: what the build made, in place of patterns of wheels.

    Raises:
        ConfigurationError: a variable has no value, or a path or a reference leads nowhere.
    """
    config = _read(folder / "databricks.yml")
    sent = [(folder / path).resolve() for path in config.get("sync", {}).get("paths", ["."])]
    shared = Path(os.path.commonpath([folder.resolve(), *sent]))
    files = [folder / "databricks.yml"]
    files += [file for pattern in config.get("include", []) for file in folder.glob(pattern)]
    merged: Body = {}
    for file in sorted(files):
        for part, value in _read(file).items():
            here = part in {"resources", "targets"}
            placed = _placed(value, file.parent, shared, wheel) if here else value
            merged = _merged(merged, {part: placed})
    own = merged["targets"][name]
    values = _values(merged["variables"], own.get("variables", {}), variables)
    target = _merged(merged, {key: own[key] for key in ("workspace", "resources") if key in own})
    known = {f"var.{key}": value for key, value in values.items()}
    known |= {"bundle.target": name, "bundle.name": target["bundle"]["name"]}

    def look(reference: str) -> Any:
        if reference.startswith("resources."):
            return f"${{{reference}}}"
        if reference not in known:
            raise ConfigurationError(f"${{{reference}}} leads nowhere")
        return replaced(known[reference], look)

    root = replaced(target["workspace"]["root_path"], look).replace("~", f"/Workspace/Users/{USER}")
    parts = ("file", "artifact", "resource")
    known |= {f"workspace.{part}_path": f"{root}/{part}s" for part in parts}
    known["workspace.root_path"] = root
    uploads = {f"{root}/files/{file.relative_to(shared)}": file for file in _files(sent)}
    if wheel is not None:
        uploads[f"{root}/artifacts/{wheel.name}"] = wheel
    resolved = {key: replaced(value, look) for key, value in values.items()}
    return Target(root, resolved, replaced(target["resources"], look), uploads)


def replaced(value: Any, look: Callable[[str], Any]) -> Any:
    """The value with each reference in place of which `look` gives another value."""
    if isinstance(value, dict):
        return {key: replaced(inner, look) for key, inner in value.items()}
    if isinstance(value, list):
        return [replaced(inner, look) for inner in value]
    if not isinstance(value, str):
        return value
    if whole := _REFERENCE.fullmatch(value):
        return look(whole[1])
    return _REFERENCE.sub(lambda found: str(look(found[1])), value)


def references(value: Any) -> set[str]:
    """Names of all that a value refers to."""
    found: set[str] = set()
    replaced(value, found.add)
    return found


class _Loader(yaml.SafeLoader):
    """YAML in which no mapping has a key twice; another reader would let the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Body:
        keys = [key.value for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise ConfigurationError(f"{node.start_mark} has {twice} twice")
        made: Body = super().construct_mapping(node, deep)
        return made


def _read(file: Path) -> Body:
    document: Body = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - safe
    return document


def _values(declared: Body, own: Body, given: Mapping[str, str]) -> Body:
    if unknown := sorted((own.keys() | given.keys()) - declared.keys()):
        raise ConfigurationError(f"the variables {unknown} are not declared")
    assigned = {key: value["default"] for key, value in declared.items() if "default" in value}
    assigned |= {**own, **given}
    if missing := sorted(declared.keys() - assigned.keys()):
        raise ConfigurationError(f"no value for {missing}: give --var {missing[0]}=...")
    return assigned


def _placed(value: Any, folder: Path, shared: Path, wheel: Path | None, key: str = "") -> Any:
    """The value with paths of the workspace in place of those relative to their file."""
    if isinstance(value, dict):
        return {k: _placed(inner, folder, shared, wheel, k) for k, inner in value.items()}
    if isinstance(value, list):
        return [_placed(inner, folder, shared, wheel, key) for inner in value]
    if not (isinstance(value, str) and key in _PATHS and value.startswith(".")):
        return value
    if value.endswith(".whl"):
        return f"${{workspace.artifact_path}}/{wheel.name}" if wheel else value
    file = (folder / value).resolve()
    if not file.exists():
        raise ConfigurationError(f"{key}: there is no {file}")
    if key == "file_path":  # a deployment sends what it holds
        return str(file)
    inside = file.relative_to(shared).as_posix()
    if key == "notebook_path":
        inside = inside.removesuffix(".py")
    return f"${{workspace.file_path}}/{inside}"


def _merged(first: Any, second: Any, key: str = "") -> Any:
    """Mappings by name, tasks and the like by their key, other lists one after the other."""
    if isinstance(first, dict) and isinstance(second, dict):
        both = {k: _merged(first[k], v, k) if k in first else v for k, v in second.items()}
        return first | both
    if isinstance(first, list) and isinstance(second, list):
        by = _MERGED_BY.get(key)
        if by is None:
            return first + second
        joined = {item[by]: item for item in first}
        for item in second:
            joined[item[by]] = _merged(joined.get(item[by], {}), item)
        return list(joined.values())
    return second


def _files(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield file
