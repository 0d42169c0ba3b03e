"""A pre-flight check of files for sdp-meta 0.1.0, in pure Python: every problem, with its fix.

Contract: docs/decisions/dlt-meta.md. It finds what sdp-meta refuses, and also what it takes without
a word and then does otherwise than is meant.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from caspers_lib.domain import GHOST_KITCHEN, Domain
from caspers_lib.medallion.dlt_meta_contents import (
    Problem,
    check_expectations,
    check_schema,
    check_transformations,
    good_conditions,
    nearest,
    read_json,
)

__all__ = ["Problem", "check_dlt_meta"]

_FORMATS = ("cloudFiles", "delta", "kafka", "eventhub", "snapshot")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")

# Keys of an onboarding's row; {env} is the environment, {layer} bronze or silver.
_ROW_KEYS = ("data_flow_id", "data_flow_group", "source_system", "source_format", "source_details")
_LAYER_KEYS = (
    "{layer}_catalog_{env}", "{layer}_database_{env}", "{layer}_table", "{layer}_table_comment",
    "{layer}_table_path_{env}", "{layer}_reader_options", "{layer}_table_properties",
    "{layer}_partition_columns", "{layer}_cluster_by", "{layer}_cluster_by_auto",
    "{layer}_data_quality_expectations_json_{env}", "{layer}_catalog_quarantine_{env}",
    "{layer}_database_quarantine_{env}", "{layer}_quarantine_table",
    "{layer}_quarantine_table_comment", "{layer}_quarantine_table_path_{env}",
    "{layer}_quarantine_table_partitions", "{layer}_quarantine_table_properties",
    "{layer}_quarantine_table_cluster_by", "{layer}_quarantine_table_cluster_by_auto",
    "{layer}_quarantine_cluster_by", "{layer}_cdc_apply_changes",
    "{layer}_cdc_apply_changes_flows", "{layer}_apply_changes_from_snapshot",
    "{layer}_append_flows", "{layer}_sinks", "{layer}_row_filter", "{layer}_quarantine_row_filter",
)  # fmt: skip
_SILVER_KEYS = ("silver_transformation_json_{env}",)
_SOURCE_KEYS = (
    "source_path_{env}", "source_catalog_{env}", "source_database", "source_table",
    "source_schema_path", "source_metadata", "snapshot_format",
)  # fmt: skip
_METADATA_KEYS = (
    "include_autoloader_metadata_column", "autoloader_metadata_col_name", "select_metadata_cols"
)  # fmt: skip
_CDC_MANDATORY = ("keys", "sequence_by", "scd_type")


def check_dlt_meta(
    files: Path | Mapping[str, str],
    *,
    env: str = "dev",
    onboarding: str = "onboarding.json",
    domain: Domain = GHOST_KITCHEN,
) -> list[Problem]:
    """Every problem of an onboarding and the files that it names; none if all is well.

    Args:
        files: the folder in which they lie, or their texts by name. A path in the onboarding means
            the file with its last part as name, wherever it will lie.
        env: suffix of the keys of the environment that is onboarded.
        onboarding: name of the onboarding file.
        domain: the business, whose rules a quarantine's predicate may not repeat.
    """
    texts, problems = _texts(files)
    if onboarding not in texts:
        if not problems:
            fix = "write the files with `write_dlt_meta`"
            problems.append(Problem(onboarding, "", "there is no such file", fix))
        return problems
    document, unreadable = read_json(onboarding, texts[onboarding])
    problems += unreadable
    if unreadable:
        return problems
    if not isinstance(document, list) or not document:
        fix = "write [{...}], an object for each data flow"
        return [*problems, Problem(onboarding, "", "it is no JSON list of data flows", fix)]
    check = _Onboarding(onboarding, texts, env, good_conditions(domain))
    problems += check.rows(document)
    return list(dict.fromkeys(problems))  # a file that two rows name is told of once


def _texts(files: Path | Mapping[str, str]) -> tuple[dict[str, str], list[Problem]]:
    if not isinstance(files, Path):
        return dict(files), []
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    for path in sorted(files.iterdir()) if files.is_dir() else ():
        if path.suffix.lower() not in {".json", ".ddl", ".yml", ".yaml", ".sql", ".txt"}:
            continue
        try:
            texts[path.name] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            fix = "write it as UTF-8 text that you may read"
            problems.append(Problem(path.name, "", f"it can't be read: {error}", fix))
    return texts, problems


@dataclass(frozen=True, slots=True)
class _Onboarding:
    file: str
    texts: Mapping[str, str]
    env: str
    good: Mapping[str, str]

    def problem(self, where: str, what: str, fix: str) -> Problem:
        return Problem(self.file, where, what, fix)

    def rows(self, document: list[Any]) -> Iterator[Problem]:
        seen: set[str] = set()
        for index, row in enumerate(document):
            if not isinstance(row, dict):
                yield self.problem(f"[{index}]", "it is no JSON object", "write one in braces")
                continue
            flow = row.get("data_flow_id")
            named = isinstance(flow, str) and bool(flow)
            where = f"data_flow_id {flow}" if named else f"[{index}]"
            if not named:
                what = "data_flow_id is missing, empty or no text"
                yield self.problem(where, what, 'give the flow an id of its own, such as "100"')
            elif str(flow) in seen:
                what = "two rows have this data_flow_id, and sdp-meta refuses the file"
                yield self.problem(where, what, "give each row its own")
            seen.add(str(flow))
            yield from self._row(where, row)

    def _row(self, where: str, row: Mapping[str, Any]) -> Iterator[Problem]:
        env = self.env
        has_bronze = bool(row.get("source_details"))
        has_silver = bool(row.get(f"silver_database_{env}"))
        yield from self._keys(where, row, self._known())
        needed = ["data_flow_group", f"bronze_database_{env}", "bronze_table"]
        if has_bronze:
            needed += ["source_format"]
        if has_silver or "silver_table" in row:
            needed += [f"silver_database_{env}", "silver_table"]
            if not row.get("silver_cdc_apply_changes_flows"):
                needed += [f"silver_transformation_json_{env}"]
        for key in needed:
            if not row.get(key):
                what = f"{key} is missing or empty"
                yield self.problem(where, what, f'add "{key}": "..."')
        if not has_bronze and not has_silver:
            what = "source_details is missing, so there is nothing to read"
            yield self.problem(where, what, f'add "source_details": {{"source_path_{env}": "..."}}')
        yield from self._names(where, row)
        yield from self._values(where, row)
        if has_bronze:
            yield from self._source(where, row)
        for layer in ("bronze", "silver"):
            yield from self._quality(where, row, layer)
            yield from self._cdc(where, row, layer)
        if has_silver:
            yield from self._silver(where, row)

    def _known(self) -> tuple[str, ...]:
        layers = (
            k.format(layer=n, env=self.env) for n in ("bronze", "silver") for k in _LAYER_KEYS
        )
        return (*_ROW_KEYS, *layers, *(k.format(env=self.env) for k in _SILVER_KEYS))

    def _keys(
        self, where: str, found: Mapping[str, Any], known: tuple[str, ...]
    ) -> Iterator[Problem]:
        """Keys that sdp-meta would not look at."""
        ending = f"_{self.env}"
        stems = sorted((k.removesuffix(ending) for k in known if k.endswith(ending)), key=len)
        for key in found:
            # Other environments may stand beside this one.
            if key in known:
                continue
            stem = next((s for s in reversed(stems) if key.startswith(f"{s}_")), "")
            if not stem or key.endswith(ending):
                what, fix = "sdp-meta doesn't know the key", nearest(key, known)
                yield self.problem(f"{where}, {key}", what, fix)
            elif stem + ending not in found:
                what = f"the key is of another environment than {self.env}"
                fix = f"write {stem}{ending}, or onboard {key.removeprefix(f'{stem}_')}"
                yield self.problem(f"{where}, {key}", what, fix)

    def _names(self, where: str, row: Mapping[str, Any]) -> Iterator[Problem]:
        for layer in ("bronze", "silver"):
            for key, parts in (
                (f"{layer}_database_{self.env}", 2),
                (f"{layer}_table", 1),
                (f"{layer}_catalog_{self.env}", 1),
                (f"{layer}_database_quarantine_{self.env}", 2),
                (f"{layer}_quarantine_table", 1),
                (f"{layer}_catalog_quarantine_{self.env}", 1),
            ):
                name = row.get(key)
                if not name:
                    continue
                pieces = name.split(".") if isinstance(name, str) else [""]
                if len(pieces) > parts or not all(map(_NAME.fullmatch, pieces)):
                    what = f"{key} is {name!r}; letters, digits and _ are allowed, no digit first"
                    yield self.problem(
                        where, what, "choose another name: it goes into SQL unquoted"
                    )

    def _values(self, where: str, row: Mapping[str, Any]) -> Iterator[Problem]:
        """Values of another kind than sdp-meta works with."""
        for layer in ("bronze", "silver"):
            for key in ("reader_options", "table_properties", "quarantine_table_properties"):
                options = row.get(f"{layer}_{key}") or {}
                if not isinstance(options, dict):
                    what = f"{layer}_{key} is no JSON object"
                    yield self.problem(where, what, 'write {"name": "value"}')
                    continue
                for name, value in options.items():
                    if not isinstance(value, str):
                        what = f"{layer}_{key}, {name!r} has a value that is no text"
                        yield self.problem(where, what, f'write "{str(value).lower()}" in quotes')
            for key in ("partition_columns", "quarantine_table_partitions"):
                columns = row.get(f"{layer}_{key}")
                if columns is not None and not isinstance(columns, str):
                    what = f"{layer}_{key} is no text"
                    yield self.problem(where, what, 'write the columns as "a,b"')

    def _source(self, where: str, row: Mapping[str, Any]) -> Iterator[Problem]:
        source, kind = row["source_details"], row.get("source_format")
        if kind and kind not in _FORMATS:
            what = f"source_format is {kind!r}; allowed are {', '.join(_FORMATS)}"
            yield self.problem(where, what, nearest(str(kind), _FORMATS))
        if not isinstance(source, dict):
            fix = f'write {{"source_path_{self.env}": "..."}}'
            yield self.problem(where, "source_details is no JSON object", fix)
            return
        inside = f"{where}, source_details"
        if kind in ("cloudFiles", "delta", "snapshot"):
            known = tuple(k.format(env=self.env) for k in _SOURCE_KEYS)
            yield from self._keys(inside, source, known)
        if kind == "cloudFiles":
            key = f"source_path_{self.env}"
            if not source.get(key):
                yield self.problem(inside, f"{key} is missing or empty", f'add "{key}": "/..."')
            else:
                yield from self._absolute(f"{inside}, {key}", source[key])
        metadata = source.get("source_metadata")
        if metadata is not None:
            yield from self._metadata(f"{inside}, source_metadata", metadata)
        schema = source.get("source_schema_path")
        if schema:
            yield from self._file(f"{inside}, source_schema_path", schema, check_schema)

    def _metadata(self, where: str, metadata: object) -> Iterator[Problem]:
        if not isinstance(metadata, dict):
            fix = 'write {"select_metadata_cols": {"column": "_metadata.file_path"}}'
            yield self.problem(where, "it is no JSON object", fix)
            return
        for key in metadata:
            if key not in _METADATA_KEYS:
                fix = nearest(key, _METADATA_KEYS)
                yield self.problem(f"{where}, {key}", "sdp-meta doesn't know the key", fix)
        columns = metadata.get("select_metadata_cols") or {}
        for name, column in columns.items() if isinstance(columns, dict) else ():
            if not isinstance(column, str) or not re.fullmatch(r"[\w.]+", column):
                what = f"{name!r} is no column, and expressions aren't allowed here"
                yield self.problem(where, what, "write a column such as _metadata.file_path")

    def _quality(self, where: str, row: Mapping[str, Any], layer: str) -> Iterator[Problem]:
        key, table = (
            f"{layer}_data_quality_expectations_json_{self.env}",
            f"{layer}_quarantine_table",
        )
        path, name = row.get(key), row.get(table)
        database = f"{layer}_database_quarantine_{self.env}"
        if name and not path:
            what = f"{table} is {name!r}, but there are no expectations, so nothing goes there"
            yield self.problem(where, what, f'add "{key}": "..."')
        if not path:
            return
        if layer == "bronze" and table not in row:
            what = f"{table} is missing; with expectations sdp-meta fails without the key"
            yield self.problem(where, what, f'add "{table}": "", or the name of a table')
        if name and not row.get(database):
            what = f"{database} is missing, so sdp-meta leaves the quarantine out"
            yield self.problem(where, what, f'add "{database}": "..."')

        def check(file: str, text: str) -> Iterator[Problem]:
            document, problems = read_json(file, text)
            yield from problems
            if not problems:
                yield from check_expectations(file, document, self.good, str(name or ""))

        yield from self._file(f"{where}, {key}", path, check)

    def _cdc(self, where: str, row: Mapping[str, Any], layer: str) -> Iterator[Problem]:
        key = f"{layer}_cdc_apply_changes"
        cdc = row.get(key)
        if not cdc:
            return
        if not isinstance(cdc, dict):
            fix = 'write {"keys": [...], "sequence_by": "...", "scd_type": "1"}'
            yield self.problem(where, f"{key} is no JSON object", fix)
            return
        for name in _CDC_MANDATORY:
            if not cdc.get(name):
                yield self.problem(f"{where}, {key}", f"{name} is missing or empty", "add it")
        if cdc.get("scd_type") and str(cdc["scd_type"]) not in ("1", "2"):
            what = f"scd_type is {cdc['scd_type']!r}; allowed are 1 and 2"
            yield self.problem(f"{where}, {key}", what, 'write "1" for the newest row of each key')
        if row.get(f"{key}_flows"):
            what = f"{key}_flows is there too, and sdp-meta refuses both together"
            yield self.problem(f"{where}, {key}", what, "keep one of the two")

    def _silver(self, where: str, row: Mapping[str, Any]) -> Iterator[Problem]:
        key, table = f"silver_transformation_json_{self.env}", row.get("silver_table")
        path = row.get(key)
        if not path:
            return

        def check(file: str, text: str) -> Iterator[Problem]:
            document, problems = read_json(file, text)
            yield from problems or check_transformations(file, document)
            entries = document if isinstance(document, list) else []
            targets = [e.get("target_table") for e in entries if isinstance(e, dict)]
            if table and targets and table not in targets:
                what = f"no transformation has target_table {table}: bronze would be copied whole"
                yield Problem(file, "", what, f'add {{"target_table": "{table}", ...}}')

        yield from self._file(f"{where}, {key}", path, check)

    def _absolute(self, where: str, path: object) -> Iterator[Problem]:
        if not isinstance(path, str) or not re.match(r"/|[A-Za-z][\w+.-]*:/", path):
            what = f"{path!r} is no absolute path"
            yield self.problem(where, what, "write it from the root, such as /Volumes/...")

    def _file(
        self, where: str, path: object, check: Callable[[str, str], Iterator[Problem]]
    ) -> Iterator[Problem]:
        """Problems of a file that the onboarding names, or that it isn't there."""
        yield from self._absolute(where, path)
        name = PurePosixPath(str(path)).name
        if name in self.texts:
            yield from check(name, self.texts[name])
        else:
            yield self.problem(where, f"the file {name} isn't there", "write it, or mend the path")
