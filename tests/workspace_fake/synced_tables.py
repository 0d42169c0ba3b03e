"""Synced tables: what they are made of, the pipelines that fill them, their place in a catalog."""

from collections.abc import Collection

from tests.workspace_fake.pipelines import Pipelines
from tests.workspace_fake.requests import Document, Refused, invalid, not_found, taken
from tests.workspace_fake.unity import Unity

__all__ = ["SyncedTables"]

_PLACE = ("branch", "postgres_database")


class SyncedTables:
    """What Lakebase's synced tables need of the other services.

    Args:
        unity: has their sources and, for those in an ordinary catalog, their names.
        pipelines: run the syncs.
    """

    def __init__(self, unity: Unity, pipelines: Pipelines) -> None:
        self.unity = unity
        self.pipelines = pipelines

    def checked(self, identity: str, spec: Document, lakebase: Document | None) -> Document:
        """The specification with what a Lakebase catalog says of its place.

        Args:
            identity: `catalog.schema.table`.
            spec: as it was sent.
            lakebase: the specification of the catalog if it is Lakebase's.

        Raises:
            Refused: it can't be synced there, or so.
        """
        catalog = identity.partition(".")[0]
        if lakebase is not None:
            if other := [key for key in _PLACE if spec.get(key) not in {None, lakebase[key]}]:
                raise invalid(f"{other} are not those of the catalog '{catalog}'")
            spec = {**spec, **{key: lakebase[key] for key in _PLACE}}
        elif catalog not in self.unity.stores["catalogs"]:
            raise Refused(404, "CATALOG_DOES_NOT_EXIST", f"Catalog '{catalog}' does not exist.")
        else:
            self.unity.need("schemas", identity.rpartition(".")[0])
            if missing := [key for key in _PLACE if not spec.get(key)]:
                raise invalid(f"missing fields in spec: {missing}, as '{catalog}' is no Lakebase")
            if identity in self.unity.stores["tables"]:
                raise taken(f"Table '{identity}'", "ALREADY_EXISTS")
        self._check_pipeline(spec)
        self._check_source(spec)
        return spec

    def _check_source(self, spec: Document) -> None:
        source = spec["source_table_full_name"]
        if source not in self.unity.stores["tables"]:
            raise not_found(source, "NOT_FOUND")
        properties = self.unity.stores["tables"][source].get("properties", {})
        has_feed = properties.get("delta.enableChangeDataFeed") == "true"
        if spec["scheduling_policy"] != "SNAPSHOT" and not has_feed:
            raise invalid(f"Change Data Feed is not enabled\non {source}.")

    def _check_pipeline(self, spec: Document) -> None:
        pipeline, existing = spec.get("new_pipeline_spec", {}), spec.get("existing_pipeline_id")
        if bool(pipeline) == bool(existing):
            raise invalid("missing fields in spec: one of new_pipeline_spec, existing_pipeline_id")
        if existing:
            if existing not in self.pipelines.pipelines:
                raise not_found(f"The specified pipeline {existing}")
            return
        wanted = {"storage_catalog", "storage_schema"}
        if missing := sorted(name for name in wanted if not pipeline.get(name)):
            raise invalid(f"missing fields in spec.new_pipeline_spec: {missing}")
        self.unity.need("catalogs", pipeline["storage_catalog"])

    def begin(self, identity: str, spec: Document) -> str:
        """See that a pipeline fills it, and that an ordinary catalog lists it; the pipeline's id.

        Args:
            identity: `catalog.schema.table`.
            spec: checked.
        """
        if identity.partition(".")[0] in self.unity.stores["catalogs"]:
            self.unity.add("tables", identity, table_type="FOREIGN")
        existing: str = spec.get("existing_pipeline_id", "")
        return existing or self.pipelines.add_managed(f"Sync of {identity}")

    def end(self, identity: str, pipeline: str, in_use: Collection[str]) -> None:
        """Take it from its catalog, and its pipeline away if nothing else is in it.

        Args:
            identity: `catalog.schema.table`.
            pipeline: its pipeline's id.
            in_use: ids of the pipelines of all others.
        """
        if pipeline not in in_use:
            self.pipelines.remove_managed(pipeline)
        if identity in self.unity.stores["tables"]:
            self.unity.stores["tables"].remove(identity)
