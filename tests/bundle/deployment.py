"""`databricks bundle deploy` and `destroy` by the SDK, as far as a bundle of ours needs them.

A resource is made after all that it refers to, and deleted before. What was deployed is remembered,
so that a second deployment changes only what differs.
"""

import base64
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.workspace import ImportFormat

from tests.bundle.configuration import Body, ConfigurationError, Target, references, replaced
from tests.bundle.resource_kinds import KINDS, Deployed

__all__ = ["Deployment", "Plan"]

Key = tuple[str, str]


@dataclass(frozen=True)
class Plan:
    """What a deployment changed, as `kind.key`."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)


@dataclass
class Deployment:
    """A bundle's deployment to a workspace.

    Args:
        client: the workspace.
        state: what was deployed, in the order in which it was made.
        root: its folder in the workspace.
    """

    client: WorkspaceClient
    state: dict[Key, Deployed] = field(default_factory=dict)
    root: str = ""

    def deploy(self, target: Target) -> Plan:
        """Bring the workspace to what a target says.

        Args:
            target: merged and resolved.

        Raises:
            ConfigurationError: a reference leads nowhere; nothing has changed.
        """
        order, plan = _in_order(target), Plan()
        self.root = target.root
        _upload(self.client, target)
        for key in [key for key in reversed(self.state) if key not in order]:
            plan.deleted.append(self._delete(key))
        for key in order:
            body = replaced(target.resources[key[0]][key[1]], self._look)
            kind, was, name = KINDS[key[0]], self.state.get(key), ".".join(key)
            if was is None:
                self.state[key] = Deployed(kind.create(self.client, body), body)
                plan.created.append(name)
            elif was.body == body:
                plan.unchanged.append(name)
            else:
                kind.update(self.client, was, body)
                self.state[key] = Deployed(was.identity, body)
                plan.updated.append(name)
        return plan

    def destroy(self) -> Plan:
        """Delete all that was deployed, what uses before what is used."""
        plan = Plan(deleted=[self._delete(key) for key in reversed(list(self.state))])
        self.client.workspace.delete(self.root, recursive=True)
        return plan

    def body(self, kind: str, key: str) -> Body:
        """What a resource was made of, with every reference in place."""
        return self.state[kind, key].body

    def _delete(self, key: Key) -> str:
        KINDS[key[0]].delete(self.client, self.state.pop(key))
        return ".".join(key)

    def _look(self, reference: str) -> Any:
        _, kind, key, name = reference.split(".")
        made = self.state[kind, key]
        return made.identity if name == "id" else made.body[name]


def _in_order(target: Target) -> list[Key]:
    """The resources, each after those that it refers to."""
    graph: dict[Key, list[Key]] = {}
    for kind, resources in target.resources.items():
        for key, body in resources.items():
            uses = {(used[1], used[2]) for used in (name.split(".") for name in references(body))}
            graph[kind, key] = sorted(uses)  # so that every run makes them in one order
    for used in {used for uses in graph.values() for used in uses} - graph.keys():
        raise ConfigurationError(f"something refers to {'.'.join(used)}, which is not declared")
    if unknown := target.resources.keys() - KINDS.keys():
        raise ConfigurationError(f"the kinds {sorted(unknown)} are not modelled")
    return list(TopologicalSorter(graph).static_order())


def _upload(client: WorkspaceClient, target: Target) -> None:
    for folder in ("artifacts", "files", "resources"):
        client.workspace.mkdirs(f"{target.root}/{folder}")
    for folder in sorted({path.rpartition("/")[0] for path in target.uploads}):
        client.workspace.mkdirs(folder)
    for path, file in target.uploads.items():
        content = base64.b64encode(file.read_bytes()).decode()
        client.workspace.import_(path, content=content, format=ImportFormat.AUTO, overwrite=True)
