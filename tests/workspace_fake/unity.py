"""Unity Catalog's objects: what is in what, what is missing, what goes with what."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.workspace_fake.requests import Document, Refused, invalid, not_found, taken
from tests.workspace_fake.state import ME, NOW_MS, Common, Store

__all__ = ["KINDS", "Kind", "Unity", "parent_of"]

_NAME = re.compile(r"[^/. \x00-\x1f\x7f]{1,255}")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of objects.

    Args:
        path: in the address, and in the snapshot.
        noun: in messages.
        code: begins its error codes.
        parts: how many its full name has.
        securable: its type, where something is granted on it.
    """

    path: str
    noun: str
    code: str
    parts: int
    securable: str

    @property
    def missing(self) -> str:
        """The error code for one that doesn't exist."""
        return f"{self.code}_DOES_NOT_EXIST"

    @property
    def exists(self) -> str:
        """The error code for a name that is taken."""
        return f"{self.code}_ALREADY_EXISTS"


KINDS = {
    kind.path: kind
    for kind in (
        Kind("catalogs", "Catalog", "CATALOG", 1, "CATALOG"),
        Kind("schemas", "Schema", "SCHEMA", 2, "SCHEMA"),
        Kind("volumes", "Volume", "VOLUME", 3, "VOLUME"),
        Kind("tables", "Table", "TABLE", 3, "TABLE"),
        Kind("functions", "Function", "FUNCTION", 3, "FUNCTION"),
        Kind("models", "Registered model", "RESOURCE", 3, "FUNCTION"),
    )
}


def parent_of(name: str) -> str:
    """The full name of what an object is in.

    Args:
        name: its full name.
    """
    return name.rpartition(".")[0]


@dataclass
class Unity:
    """All objects, by kind and full name.

    Args:
        common: of the workspace.
        grants: privileges by type and full name, then by who has them.
        files: contents by path.
        directories: those within volumes.
        is_elsewhere: whether another service has a catalog of this name.
    """

    common: Common
    stores: dict[str, Store] = field(init=False)
    versions: Store = field(init=False)
    grants: dict[tuple[str, str], dict[str, set[str]]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    is_elsewhere: Callable[[str], bool] = field(default=lambda _catalog: False)

    def __post_init__(self) -> None:
        """Begin empty."""
        self.stores = {path: Store(self.common) for path in KINDS}
        self.versions = Store(self.common)

    def need(self, path: str, name: str) -> Document:
        """An object that must exist, whether it shows yet or not.

        Args:
            path: its kind.
            name: its full name.

        Raises:
            Refused: it doesn't exist.
        """
        if name not in self.stores[path]:
            raise self.missing(path, name)
        return self.stores[path][name]

    def look(self, path: str, name: str) -> Document:
        """An object, if a reader sees it.

        Args:
            path: its kind.
            name: its full name.

        Raises:
            Refused: no.
        """
        document = self.stores[path].look(name)
        if document is None:
            raise self.missing(path, name)
        return document

    def missing(self, path: str, name: str) -> Refused:
        """The refusal of an object that doesn't exist.

        Args:
            path: its kind.
            name: its full name.
        """
        kind = KINDS[path]
        return not_found(f"{kind.noun} '{name}'", kind.missing)

    def add(self, path: str, name: str, **more: object) -> Document:
        """A new object.

        Args:
            path: its kind.
            name: its full name.
            more: its fields, besides its names and who made it when.

        Raises:
            Refused: the name is none or taken, or what it is to be in doesn't exist.
        """
        kind, parts = KINDS[path], name.split(".")
        if len(parts) != kind.parts or not all(map(_NAME.fullmatch, parts)):
            raise invalid(f"'{name}' is not a valid name of a {kind.noun.lower()}")
        if kind.parts > 1:
            self.need("catalogs", parts[0])
        if kind.parts > 2:
            self.need("schemas", parent_of(name))
        if name in self.stores[path] or (path == "catalogs" and self.is_elsewhere(name)):
            raise taken(f"{kind.noun} '{name}'", kind.exists)
        names = dict(zip(("catalog_name", "schema_name"), parts[:-1], strict=False))
        document: Document = {
            "name": parts[-1],
            "full_name": name,
            **names,
            "owner": ME,
            "created_at": NOW_MS,
            "created_by": ME,
            **more,
        }
        self.stores[path].add(name, document)
        if path == "catalogs":  # every catalog is born with them
            self.add("schemas", f"{name}.default")
            self.add("schemas", f"{name}.information_schema")
        return document

    def inside(self, path: str, name: str) -> list[tuple[str, str]]:
        """Kinds and full names of what is directly in an object.

        Args:
            path: its kind.
            name: its full name.
        """
        wanted = KINDS[path].parts + 1
        return [
            (inner, other)
            for inner, kind in KINDS.items()
            if kind.parts == wanted
            for other in self.stores[inner].items
            if parent_of(other) == name
        ]

    def remove(self, path: str, name: str, *, force: bool = True) -> None:
        """An object that goes, with all that is in it.

        Args:
            path: its kind.
            name: its full name.
            force: whether something may be in it.

        Raises:
            Refused: it doesn't exist, or is not empty.
        """
        self.need(path, name)
        inner = [] if KINDS[path].parts > 2 else self.inside(path, name)
        counted = [what for what in inner if what[1] != f"{name}.information_schema"]
        if counted and not force:
            held = ", ".join(sorted(other for _, other in counted))
            code = f"{KINDS[path].code}_NOT_EMPTY"
            raise Refused(400, code, f"{KINDS[path].noun} '{name}' is not empty: {held}")
        for kind, other in inner:
            self.remove(kind, other)
        self.stores[path].remove(name)
        self.grants.pop((KINDS[path].securable, name), None)
        if path == "models":
            for version in [v for v in self.versions.items if v.startswith(f"{name}/")]:
                self.versions.remove(version)
        if path == "volumes":
            self._remove_files("/Volumes/" + name.replace(".", "/"))

    def _remove_files(self, root: str) -> None:
        for file in [f for f in self.files if f.startswith(f"{root}/")]:
            del self.files[file]
        self.directories -= {d for d in self.directories if d.startswith(f"{root}/")}

    def snapshot(self) -> Document:
        """All that exists."""
        said: Document = {path: store.snapshot() for path, store in self.stores.items()}
        said["model_versions"] = self.versions.snapshot()
        said["files"] = {path: len(content) for path, content in sorted(self.files.items())}
        said["directories"] = sorted(self.directories)
        said["grants"] = {
            f"{kind} {name}": {who: sorted(what) for who, what in sorted(given.items()) if what}
            for (kind, name), given in sorted(self.grants.items())
            if any(given.values())
        }
        return said
