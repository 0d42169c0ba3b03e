"""The statements that take staged rows into the target, as text made from a plan."""

from caspers_lib.lakebase.identifiers import quote_identifier
from caspers_lib.lakebase.sync_plan import SyncPlan

__all__ = [
    "delete_sql",
    "doubled_sql",
    "kept_keys_sql",
    "keys_sql",
    "newest_sql",
    "refusal_checks",
    "typed",
    "upsert_sql",
]

# Writing in key order is the biggest lever on the index.
_UPSERT = """
INSERT INTO {target} AS t ({names})
SELECT {typed_values} FROM ({newest}) AS newest WHERE NOT deleted
ORDER BY {staged_keys}
ON CONFLICT ({keys}) DO {update}
"""

_NEWEST = (
    "SELECT DISTINCT ON ({staged_keys}) * FROM {staging} WHERE refusal IS NULL "
    "ORDER BY {newest_first}"
)

_KEYS = """
SELECT count(*) FILTER (WHERE NOT deleted), count(*) FILTER (WHERE deleted) FROM (
  SELECT DISTINCT ON ({staged_keys}) deleted FROM {staging} WHERE refusal IS NULL
  ORDER BY {staged_keys}, version DESC, deleted
) AS newest
"""

_DELETE = "DELETE FROM {target} AS t USING ({newest}) AS n WHERE n.deleted AND {same_key}"

# A new image counts also where it is refused: its row is still in the source.
_KEPT_KEYS = """
DELETE FROM {staging} AS o USING {staging} AS n
WHERE o.old AND NOT n.deleted AND n.version = o.version AND {same_staged}
"""

# A row that is refused is still in the source, so what the target has of it stays.
_DELETE_OTHERS = """
DELETE FROM {target} AS t
WHERE NOT EXISTS (SELECT FROM {staging} AS n WHERE n.refusal IS NULL AND {same_key})
  AND NOT EXISTS (SELECT FROM {staging} AS n WHERE n.refusal IS NOT NULL AND {same_text})
"""

_DOUBLED = """
SELECT coalesce(sum(rows - 1), 0)::bigint FROM (
  SELECT count(*) AS rows FROM {staging} WHERE refusal IS NULL AND NOT deleted
  GROUP BY version, {staged_keys} HAVING count(*) > 1
) AS groups
"""


def upsert_sql(plan: SyncPlan, staging: str) -> str:
    """The statement that writes the staged rows that count, but not those that don't change.

    Args:
        plan: the plan.
        staging: the staging table, quoted.
    """
    return _UPSERT.format(newest=newest_sql(plan, staging), **_fragments(plan))


def delete_sql(plan: SyncPlan, staging: str, *, replace: bool) -> str:
    """The statement that deletes keys.

    Args:
        plan: the plan.
        staging: the staging table, quoted.
        replace: delete the keys that are not among the staged rows, rather than those whose newest
            row is a deletion.
    """
    template = _DELETE_OTHERS if replace else _DELETE
    newest = newest_sql(plan, staging)
    return template.format(staging=staging, newest=newest, **_fragments(plan))


def keys_sql(plan: SyncPlan, staging: str) -> str:
    """The query of how many keys are to be written and how many to be deleted."""
    return _KEYS.format(staging=staging, **_fragments(plan))


def kept_keys_sql(plan: SyncPlan, staging: str) -> str:
    """The statement that drops the old images whose key the same commit writes again."""
    return _KEPT_KEYS.format(staging=staging, **_fragments(plan))


def newest_sql(plan: SyncPlan, staging: str) -> str:
    """The query of the staged row that counts, for each key."""
    return _NEWEST.format(staging=staging, **_fragments(plan))


def doubled_sql(plan: SyncPlan, staging: str) -> str:
    """The query that counts rows beyond the first of a key in a commit."""
    return _DOUBLED.format(staging=staging, **_fragments(plan))


def refusal_checks(plan: SyncPlan) -> str:
    """Expressions that fail where a staged row holds a value that its type can't."""
    checks = [
        f"count(c{i}::{c.type})"
        if c.name in plan.spec.keys
        else f"count(CASE WHEN NOT deleted THEN c{i}::{c.type} END)"
        for i, c in enumerate(plan.columns)
        if c.staged_type != c.type
    ]
    return ", ".join(checks or ["NULL"])


def typed(plan: SyncPlan, *, named: bool = False) -> str:
    """The staged columns as values of their types.

    Args:
        plan: the plan.
        named: under the names that they have in the target.
    """
    return ", ".join(
        f"c{i}::{c.type}" + (f" AS {quote_identifier(c.name)}" if named else "")
        for i, c in enumerate(plan.columns)
    )


def _fragments(plan: SyncPlan) -> dict[str, str]:
    spec = plan.spec
    staged = {name: f"c{i}" for i, name in enumerate(plan.names)}
    casts = {c.name: f"{staged[c.name]}::{c.type}" for c in plan.columns}
    values = [name for name in plan.names if name not in spec.keys]
    staged_keys = ", ".join(staged[key] for key in spec.keys)
    # Same key, same commit: an insertion follows a deletion; the values only break ties.
    order = [staged_keys, "version DESC", "deleted"]
    if spec.newest_by:
        order.append(f"{casts[spec.newest_by]} DESC NULLS LAST")
    order += [f"{staged[value]} DESC" for value in values]
    return {
        "target": spec.target,
        "names": ", ".join(map(quote_identifier, plan.names)),
        "keys": ", ".join(map(quote_identifier, spec.keys)),
        "staged_keys": staged_keys,
        "typed_values": typed(plan),
        "newest_first": ", ".join(order),
        "same_staged": " AND ".join(f"n.{staged[k]} = o.{staged[k]}" for k in spec.keys),
        "same_key": " AND ".join(f"t.{quote_identifier(k)} = n.{casts[k]}" for k in spec.keys),
        "same_text": " AND ".join(
            f"t.{quote_identifier(k)}::text = n.{staged[k]}::text" for k in spec.keys
        ),
        "update": _update(values),
    }


def _update(values: list[str]) -> str:
    if not values:
        return "NOTHING"
    quoted = [quote_identifier(value) for value in values]
    sets = ", ".join(f"{value} = EXCLUDED.{value}" for value in quoted)
    old = ", ".join(f"t.{value}" for value in quoted)
    new = ", ".join(f"EXCLUDED.{value}" for value in quoted)
    return f"UPDATE SET {sets} WHERE ROW({old}) IS DISTINCT FROM ROW({new})"
