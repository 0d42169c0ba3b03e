"""What names services take, as patterns for the whole name."""

import re

__all__ = ["LAKEBASE_PROJECT", "SYNCED_TABLE_PART", "UNITY_CATALOG_NAME"]

LAKEBASE_PROJECT = re.compile(r"[a-z][a-z0-9-]{0,62}")
"""An id of a Lakebase project or branch."""

SYNCED_TABLE_PART = re.compile(r"[A-Za-z0-9_-]{1,255}")
"""A catalog in a synced table's name, which ends up unquoted in the path of a request."""

UNITY_CATALOG_NAME = re.compile(r"[^/.\s\x00-\x1f\x7f\ud800-\udfff]{1,255}")
"""An object in Unity Catalog, in any case."""
