"""`caspers sync`: tables brought to PostgreSQL, their plans, and both sides compared."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from caspers_lib.cli.stream_view import retried, spark_on
from caspers_lib.errors import CaspersError, SyncError
from caspers_lib.lakebase import SyncPlan, SyncSpec
from caspers_lib.lakebase.change_feed import SyncRun, source_plan
from caspers_lib.lakebase.check import SyncCheck, check_sync
from caspers_lib.lakebase.connection import connect
from caspers_lib.lakebase.target import read_target
from caspers_lib.runtime.local_business import LocalBusiness
from caspers_lib.runtime.local_root import LocalRoot
from caspers_lib.runtime.stages import Report

__all__ = ["run_sync", "run_table", "show_sync_check", "show_sync_plan"]


def run_sync(
    root: LocalRoot, names: Sequence[str], *, dsn: str | None, reload: bool, as_json: bool
) -> None:
    """Bring tables of ROOT to PostgreSQL and print what was done.

    Args:
        root: where the demo lies; no other process may own it.
        names: which synced tables; all that have a source if empty.
        dsn: the server to write to; None is ROOT's own.
        reload: load them whole.
        as_json: print one JSON document.

    Raises:
        SyncError: a name that isn't one, or a table that can't be synced.
        RootLockedError: a demo runs on this ROOT.
    """
    failed = _Failures()
    runs: dict[SyncSpec, SyncRun] = {}
    with _working(root, names, dsn, as_json) as (business, specs, report):
        for spec in specs:
            report(spec.name)
            with failed.kept():
                runs[spec] = retried(partial(business.sync, spec, reload=reload))
    if as_json:
        print(json.dumps({s.name: _run_document(run) for s, run in runs.items()}, indent=2))
    elif runs:
        Console().print(run_table(runs))
    failed.raise_first()


def show_sync_check(
    root: LocalRoot, names: Sequence[str], *, dsn: str | None, as_json: bool
) -> bool:
    """Compare tables with their sources and print the first differences; see `run_sync`.

    Returns:
        Whether all are equal.
    """
    failed = _Failures()
    checks = []
    with _working(root, names, dsn, as_json) as (business, specs, report):
        for spec in specs:
            report(spec.name)
            with failed.kept():
                checks.append(check_sync(business.spark, spec, business.dsn(spec) or ""))
    if as_json:
        print(json.dumps({check.spec.name: _check_document(check) for check in checks}, indent=2))
    else:
        for line in _check_lines(checks):
            Console().print(line, markup=False, highlight=False, soft_wrap=True)
    failed.raise_first()
    return all(check.is_equal for check in checks)


def show_sync_plan(
    root: LocalRoot, names: Sequence[str], *, dsn: str | None, as_json: bool
) -> None:
    """Print what a sync would do to its targets; see `run_sync`."""
    plans: dict[str, tuple[SyncPlan, tuple[str, ...]]] = {}
    with _working(root, names, dsn, as_json) as (business, specs, report):
        for spec in specs:
            report(spec.name)
            plan = source_plan(business.spark, spec)
            with connect(business.dsn(spec) or "") as connection:
                target = read_target(connection, spec)
            plans[spec.name] = (plan, plan.explain(target))
    if as_json:
        print(
            json.dumps({name: _plan_document(plan) for name, (plan, _) in plans.items()}, indent=2)
        )
        return
    for _, lines in plans.values():
        for line in lines:
            Console().print(line, markup=False, highlight=False, soft_wrap=True)


@dataclass
class _Failures:
    """Errors of single tables, which keep no other from its turn."""

    errors: list[CaspersError] = field(default_factory=list)

    @contextmanager
    def kept(self) -> Iterator[None]:
        try:
            yield
        except CaspersError as error:
            self.errors.append(error)

    def raise_first(self) -> None:
        """Raise the first one; what the others say comes with it."""
        if not self.errors:
            return
        first, *more = self.errors
        if not more:
            raise first
        also = " ".join(error.message for error in more)
        raise SyncError(f"{first.message} Also: {also}", hint=first.hint)


@contextmanager
def _working(
    root: LocalRoot, names: Sequence[str], dsn: str | None, as_json: bool
) -> Iterator[tuple[LocalBusiness, list[SyncSpec], Report]]:
    """Spark and PostgreSQL on ROOT, and the synced tables that are meant."""
    business = LocalBusiness(root, postgres_dsn=dsn)
    specs = _chosen(business, names)
    with spark_on(business, "caspers sync", quiet=as_json, synced=specs) as report:
        yield business, specs, report


def _chosen(business: LocalBusiness, names: Sequence[str]) -> list[SyncSpec]:
    known = {spec.name: spec for spec in business.synced_tables}
    for name in names:
        if name not in known:
            raise SyncError(
                f"There is no synced table {name!r}", hint=f"Allowed are {', '.join(known)}."
            )
    chosen = [known[name] for name in names or known]
    there = [spec for spec in chosen if business.root.table(spec.source).is_dir()]
    missing = [spec.source for spec in chosen if spec not in there]
    where, hint = business.root.path, "`caspers demo` or `caspers pipeline run` makes some"
    if names and missing:
        raise SyncError(f"There is no table {missing[0]} under {where}", hint=hint)
    if not there:
        raise SyncError(f"There is no table to sync under {where}", hint=hint)
    return there


def run_table(runs: dict[SyncSpec, SyncRun]) -> Group:
    """What was done, in at most 80 columns.

    Args:
        runs: the tables that were synced.
    """
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("table", no_wrap=True)
    for column in ("rows in", "written", "unchanged", "deleted", "refused", "lag s", "commit"):
        table.add_column(column, justify="right", no_wrap=True)
    reasons: dict[str, list[str]] = {}
    for spec, run in runs.items():
        result, lag = run.result, run.position.lag_seconds
        counts = (result.rows_in, result.written, result.unchanged, result.deleted, result.refused)
        table.add_row(
            spec.name,
            *(f"{count:,}" for count in counts),
            "" if lag is None else f"{lag:,.1f}",
            f"{run.position.commit_version:,}",
        )
        if run.loaded:
            reasons.setdefault(run.loaded, []).append(spec.name)
    whole = [f"loaded whole, {why}: {', '.join(names)}" for why, names in reasons.items()]
    return Group(table, *map(Text, whole))


def _run_document(run: SyncRun) -> dict[str, Any]:
    return {
        **asdict(run.result),
        "lag_seconds": run.position.lag_seconds,
        "commit_version": run.position.commit_version,
        "loaded": run.loaded,
    }


def _check_lines(checks: Sequence[SyncCheck]) -> Iterator[str]:
    for check in checks:
        verdict = "equal" if check.is_equal else f"{check.differing:,} keys differ"
        yield (
            f"{check.spec.name}: {verdict} at commit {check.position.commit_version:,}; "
            f"{check.source_rows:,} rows there, {check.target_rows:,} here; checksums "
            f"{check.source_sum} and {check.target_sum}"
        )
        if check.refused:
            yield f"  {check.refused:,} rows are refused, see {check.spec.dead_letters}"
        if check.doubled:
            yield f"  {check.doubled:,} rows of the source share their key with another"
        for found in check.first:
            columns = f" in {', '.join(found.columns)}" if found.columns else ""
            yield f"  {found.what}: {', '.join(map(repr, found.key))}{columns}"
        if check.differing > len(check.first):
            yield f"  and {check.differing - len(check.first):,} more"


def _check_document(check: SyncCheck) -> dict[str, Any]:
    return {
        "equal": check.is_equal,
        "commit_version": check.position.commit_version,
        "source": {"rows": check.source_rows, "checksum": check.source_sum},
        "target": {"rows": check.target_rows, "checksum": check.target_sum},
        "refused": check.refused,
        "doubled": check.doubled,
        "differing": check.differing,
        "first": [asdict(found) for found in check.first],
    }


def _plan_document(plan: SyncPlan) -> dict[str, Any]:
    return {"columns": {c.name: c.type for c in plan.columns}, "ddl": list(plan.ddl)}
