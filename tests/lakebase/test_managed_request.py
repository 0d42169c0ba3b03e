"""Managed synced tables before any call: requests, ids, refusals, differences."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from caspers_lib.errors import CaspersError, SettingsError, SyncError, WorkspaceError
from caspers_lib.lakebase.managed import (
    ManagedPlace,
    differences,
    production_branch,
    synced_table_request,
)
from caspers_lib.lakebase.sync_spec import SyncMode, SyncSpec

SPEC = SyncSpec(
    name="refunds",
    source="recommender.refund_recommendations",
    keys=("order_id",),
    database="caspers",
    schema="recommender",
    table="pg_recommendations",
    mode="continuous",
    newest_by="ts",
    jsonb=("agent_response",),
)
SOURCE = "caspersdev.recommender.refund_recommendations"
PROJECT = "caspersdevrefundmanager"
BRANCH = f"projects/{PROJECT}/branches/production"
PLACE = ManagedPlace(
    branch=BRANCH,
    catalog="caspersdev",
    storage_schema="recommender",
)
TABLE = "caspersdev.recommender.pg_recommendations"
NAME = f"synced_tables/{TABLE}"
HOSTILE = [
    "",
    " ",
    "a b",
    "a.b",
    "a/../b",
    "a?purge=true",
    "a#",
    "a%2f",
    "a\n",
    "x\0",
    "é",
    "a;--",
    '"',
]


def refused(call: Callable[[], object], error: type[CaspersError] = SyncError) -> tuple[str, str]:
    with pytest.raises(error) as caught:
        call()
    message, hint = caught.value.message, caught.value.hint
    assert hint
    assert "\n" not in message + hint
    return message, hint


def failure(call: Callable[[], object]) -> tuple[str, str]:
    return refused(call, WorkspaceError)


# What is asked for.


def test_the_request_says_everything_that_the_spec_says() -> None:
    identity, body = synced_table_request(SPEC, PLACE)
    assert identity == TABLE
    assert body.as_dict() == {
        "spec": {
            "branch": BRANCH,
            "create_database_objects_if_missing": True,
            "new_pipeline_spec": {"storage_catalog": "caspersdev", "storage_schema": "recommender"},
            "postgres_database": "caspers",
            "primary_key_columns": ["order_id"],
            "scheduling_policy": "CONTINUOUS",
            "source_table_full_name": SOURCE,
            "timeseries_key": "ts",
        }
    }


@pytest.mark.parametrize(
    ("mode", "policy"),
    [("continuous", "CONTINUOUS"), ("triggered", "TRIGGERED"), ("snapshot", "SNAPSHOT")],
)
def test_each_mode_has_its_policy(mode: SyncMode, policy: str) -> None:
    _, body = synced_table_request(replace(SPEC, mode=mode), PLACE)
    assert body.spec and body.spec.scheduling_policy
    assert body.spec.scheduling_policy.value == policy


def test_keys_keep_their_order_and_a_spec_may_have_no_newest() -> None:
    _, body = synced_table_request(replace(SPEC, keys=("b", "a"), newest_by=None), PLACE)
    assert body.spec
    assert (body.spec.primary_key_columns, body.spec.timeseries_key) == (["b", "a"], None)


def test_a_source_with_three_parts_keeps_its_catalog() -> None:
    _, body = synced_table_request(replace(SPEC, source="other.s.t"), PLACE)
    assert body.spec
    assert body.spec.source_table_full_name == "other.s.t"


def test_a_selection_of_columns_is_refused() -> None:
    columns = replace(SPEC, columns=("order_id", "ts"))
    message, _ = refused(lambda: synced_table_request(columns, PLACE))
    assert "selects columns" in message


@pytest.mark.parametrize("name", [*HOSTILE, "x" * 64, "hyphen-ated"])
@pytest.mark.parametrize("where", ["schema", "table", "database"])
def test_names_that_postgres_would_not_get_are_refused(where: str, name: str) -> None:
    changes: dict[str, Any] = {where: name}
    spec = replace(SPEC, **changes)
    message, _ = refused(lambda: synced_table_request(spec, PLACE))
    assert where in message


@pytest.mark.parametrize(
    "source",
    ["a..b", "s.a b", "s.a/b", "s.a\x7f", "a.b.c.", "a..b.c", "s." + "x" * 256, "s.\ud800"],
)
def test_sources_that_unity_catalog_does_not_have_are_refused(source: str) -> None:
    refused(lambda: synced_table_request(replace(SPEC, source=source), PLACE))


@pytest.mark.parametrize("column", ["", "a\0", "x" * 64])
def test_columns_that_postgres_would_not_keep_are_refused(column: str) -> None:
    refused(lambda: synced_table_request(replace(SPEC, keys=(column,)), PLACE))
    refused(lambda: synced_table_request(replace(SPEC, newest_by=column), PLACE))


@pytest.mark.parametrize("name", HOSTILE)
def test_places_that_lakebase_does_not_have_are_refused(name: str) -> None:
    refused(lambda: replace(PLACE, catalog=name), SettingsError)
    refused(lambda: replace(PLACE, branch=name), SettingsError)
    refused(lambda: replace(PLACE, branch=f"projects/{name}/branches/production"), SettingsError)


@pytest.mark.parametrize("what", ["catalog", "storage_schema"])
@pytest.mark.parametrize("name", ["", "a b", "a.b", "a/b", "x\0", "x" * 256])
def test_places_that_unity_catalog_does_not_have_are_refused(what: str, name: str) -> None:
    message, _ = refused(lambda: replace(PLACE, **{what: name}), SettingsError)
    assert message.startswith(what)


def test_a_table_that_shares_a_pipeline_makes_none() -> None:
    _, body = synced_table_request(SPEC, PLACE, pipeline="p-1")
    assert body.spec
    assert (body.spec.existing_pipeline_id, body.spec.new_pipeline_spec) == ("p-1", None)


def test_differences_name_what_our_own_sync_does_otherwise() -> None:
    spec = replace(SPEC, table="Pg", indexes=(("ts", 'a"b'), ("order_id",)))
    assert differences(spec) == (
        'agent_response stays text: read it as "agent_response"::jsonb.',
        'An index is missing: CREATE INDEX ON "recommender"."Pg" ("ts", "a""b")',
        'An index is missing: CREATE INDEX ON "recommender"."Pg" ("order_id")',
        "Of all rows with one key the one with the greatest ts counts, whatever commit it came"
        " with.",
        "Unity Catalog keeps recommender.Pg in lower case.",
        "There are no dead letters: a row that PostgreSQL refuses may stop the whole sync.",
        "There is no row of positions: ask for synced_table_status.",
    )


def test_a_plain_spec_differs_in_two_ways_only() -> None:
    assert len(differences(replace(SPEC, jsonb=(), newest_by=None))) == 2


def test_the_branch_that_comes_with_a_project() -> None:
    assert production_branch(f"projects/{PROJECT}") == BRANCH
    refused(lambda: production_branch("Casper's"), SettingsError)
