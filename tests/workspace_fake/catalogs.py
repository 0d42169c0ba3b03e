"""Unity Catalog: catalogs, schemas, volumes, tables, functions, models, permissions."""

from collections.abc import Iterator
from functools import partial

from tests.workspace_fake.requests import (
    Document,
    Request,
    Route,
    invalid,
    not_found,
    paged,
)
from tests.workspace_fake.shapes import check_arguments
from tests.workspace_fake.unity import KINDS, Unity

__all__ = ["Catalogs"]

_API = "/api/2.1/unity-catalog"
_NAME = "([^/]+)"
_LIST_KEYS = {"models": "registered_models"}
_LOOKS = ("include_browse", "include_aliases", "include_delta_metadata",
          "include_manifest_capabilities")  # fmt: skip
_LISTS = ("include_browse", "include_unbound", "max_results", "page_token",
          "include_manifest_capabilities", "omit_columns", "omit_properties",
          "omit_username")  # fmt: skip
_SECURABLES = {
    "CATALOG": ("catalogs",),
    "SCHEMA": ("schemas",),
    "VOLUME": ("volumes",),
    "TABLE": ("tables",),
    "FUNCTION": ("functions", "models"),
}


class Catalogs:
    """The service.

    Args:
        unity: what there is.
    """

    def __init__(self, unity: Unity) -> None:
        self.unity = unity

    def routes(self) -> Iterator[Route]:
        """Methods, paths, and what answers them."""
        yield "POST", f"{_API}/catalogs", self.create_catalog
        yield "POST", f"{_API}/schemas", self.create_schema
        yield "POST", f"{_API}/volumes", self.create_volume
        yield "POST", f"{_API}/models", self.create_model
        yield "GET", f"{_API}/tables/{_NAME}/exists", self.table_exists
        yield "GET", f"{_API}/models/{_NAME}/versions", self.list_versions
        yield "GET", f"{_API}/models/{_NAME}/versions/{_NAME}", self.get_version
        yield "DELETE", f"{_API}/models/{_NAME}/versions/{_NAME}", self.delete_version
        yield "GET", f"{_API}/permissions/{_NAME}/{_NAME}", self.get_permissions
        yield "PATCH", f"{_API}/permissions/{_NAME}/{_NAME}", self.update_permissions
        for path in KINDS:
            yield "GET", f"{_API}/{path}", partial(self.list, path)
            yield "GET", f"{_API}/{path}/{_NAME}", partial(self.get, path)
            yield "DELETE", f"{_API}/{path}/{_NAME}", partial(self.delete, path)
        for path, api in (("catalogs", "Catalogs"), ("schemas", "Schemas"), ("volumes", "Volumes")):
            yield "PATCH", f"{_API}/{path}/{_NAME}", partial(self.update, path, f"catalog.{api}API")

    def create_catalog(self, request: Request) -> Document:
        """A new catalog, with the schemas that every catalog is born with."""
        request.only(bodiless=False)
        check_arguments(request.body, "catalog.CatalogsAPI", "create")
        name = request.body["name"]
        return self.unity.add("catalogs", name, catalog_type="MANAGED_CATALOG", **_rest(request))

    def create_schema(self, request: Request) -> Document:
        """A new schema in a catalog."""
        request.only(bodiless=False)
        check_arguments(request.body, "catalog.SchemasAPI", "create")
        return self.unity.add("schemas", _full_name(request.body), **_rest(request))

    def create_volume(self, request: Request) -> Document:
        """A new volume in a schema."""
        request.only(bodiless=False)
        check_arguments(request.body, "catalog.VolumesAPI", "create")
        body = request.body
        if (body["volume_type"] == "EXTERNAL") != bool(body.get("storage_location")):
            raise invalid("storage_location is for external volumes, which need it")
        number = self.unity.common.number("volume")
        more = {"volume_id": f"volume-{number}", **_rest(request)}
        return self.unity.add("volumes", _full_name(body), **more)

    def create_model(self, request: Request) -> Document:
        """A new registered model in a schema."""
        request.only(bodiless=False)
        needed = ("catalog_name", "schema_name", "name")
        check_arguments(request.body, "catalog.RegisteredModelsAPI", "create", required=needed)
        return self.unity.add("models", _full_name(request.body), **_rest(request))

    def get(self, path: str, request: Request, name: str) -> Document:
        """One object."""
        request.only(*_LOOKS)
        return self.unity.look(path, name)

    def list(self, path: str, request: Request) -> Document:
        """The objects of a schema or catalog, or all catalogs; models may be listed everywhere."""
        kind = KINDS[path]
        scope = ("catalog_name", "schema_name")[: kind.parts - 1]
        if path == "models":
            request.only(*_LISTS, *scope)
        else:
            request.only(*_LISTS, needs=scope)
        within = ".".join(request.query[name] for name in scope if name in request.query)
        if within:
            self.unity.need("schemas" if "." in within else "catalogs", within)
        found = [
            document
            for name, document in self.unity.stores[path].looks()
            if not within or name.startswith(f"{within}.")
        ]
        return paged(request, _LIST_KEYS.get(path, path), found, "max_results")

    def update(self, path: str, api: str, request: Request, name: str) -> Document:
        """Another comment, owner, properties; renaming is not modelled."""
        request.only(bodiless=False)
        elsewhere = ("full_name",) if path == "schemas" else ("name",)
        check_arguments(request.body, api, "update", elsewhere=(*elsewhere, "new_name"))
        document = self.unity.need(path, name)
        document.update(request.body)
        return document

    def delete(self, path: str, request: Request, name: str) -> Document:
        """An object that goes; schemas and catalogs only if they are empty, or by force."""
        request.only(*(("force",) if path in {"catalogs", "schemas", "functions"} else ()))
        self.unity.remove(path, name, force=request.flag("force"))
        return {}

    def table_exists(self, request: Request, name: str) -> Document:
        """Whether there is such a table or view."""
        request.only()
        return {"table_exists": self.unity.stores["tables"].look(name) is not None}

    def list_versions(self, request: Request, name: str) -> Document:
        """The versions of a registered model."""
        request.only("include_browse", "max_results", "page_token")
        self.unity.need("models", name)
        seen = self.unity.versions.looks()
        found = [document for key, document in seen if key.startswith(f"{name}/")]
        found.sort(key=lambda document: int(document["version"]))
        return paged(request, "model_versions", found, "max_results")

    def get_version(self, request: Request, name: str, version: str) -> Document:
        """One version of a registered model."""
        request.only("include_aliases", "include_browse")
        document = self.unity.versions.look(f"{name}/{version}")
        if document is None:
            raise not_found(f"Version {version} of registered model '{name}'")
        return document

    def delete_version(self, request: Request, name: str, version: str) -> Document:
        """A version that goes."""
        request.only()
        if f"{name}/{version}" not in self.unity.versions:
            raise not_found(f"Version {version} of registered model '{name}'")
        self.unity.versions.remove(f"{name}/{version}")
        return {}

    def get_permissions(self, request: Request, kind: str, name: str) -> Document:
        """Who may do what with an object."""
        request.only("max_results", "page_token", "principal")
        given = self._grants(kind, name)
        only = request.query.get("principal")
        return {
            "privilege_assignments": [
                {"principal": who, "privileges": sorted(given[who])}
                for who in sorted(given)
                if given[who] and only in (None, who)
            ]
        }

    def update_permissions(self, request: Request, kind: str, name: str) -> Document:
        """Grants and revocations, all of them or none."""
        request.only(bodiless=False)
        elsewhere = ("securable_type", "full_name")
        check_arguments(request.body, "catalog.GrantsAPI", "update", elsewhere=elsewhere)
        given, changes = self._grants(kind, name), request.body.get("changes", [])
        for change in changes:
            who = change.get("principal")
            if who not in self.unity.common.principals:
                raise not_found(f"Principal '{who}'", "PRINCIPAL_DOES_NOT_EXIST")
        for change in changes:
            held = given.setdefault(change["principal"], set())
            held |= set(change.get("add", ()))
            held -= set(change.get("remove", ()))
        if request.body.get("omit_permissions_in_response"):
            return {}
        return self.get_permissions(Request("GET", request.path), kind, name)

    def _grants(self, kind: str, name: str) -> dict[str, set[str]]:
        securable = kind.upper()
        if securable not in _SECURABLES:
            raise invalid(f"'{kind}' is not a securable type")
        paths = _SECURABLES[securable]
        if not any(name in self.unity.stores[path] for path in paths):
            raise self.unity.missing(paths[0], name)
        return self.unity.grants.setdefault((securable, name), {})


def _full_name(body: Document) -> str:
    return ".".join(
        body[key] for key in ("catalog_name", "schema_name", "name") if body.get(key) is not None
    )


def _rest(request: Request) -> Document:
    """The fields that are not part of the name."""
    names = {"name", "catalog_name", "schema_name", "full_name"}
    return {key: value for key, value in request.body.items() if key not in names}
