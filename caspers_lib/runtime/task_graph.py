"""The ten tasks of a deployment, what each comes after, and the targets that name some of them.

Contract: docs/contracts.md, Tasks and targets. The same graph runs in a workspace and on a laptop.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, get_args

from caspers_lib.errors import SettingsError

__all__ = ["AFTER", "TARGETS", "TargetName", "checked_graph", "target_tasks"]

TargetName = Literal["default", "complaints", "free", "all"]

_DATA = "Canonical_Data"
_PIPELINE = "Spark_Declarative_Pipeline"

AFTER: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        _DATA: (),
        _PIPELINE: (_DATA,),
        "Refund_Recommender_Agent": (_PIPELINE,),
        "Refund_Recommender_Stream": (_PIPELINE,),
        "Lakebase_Reverse_ETL": ("Refund_Recommender_Stream",),
        "Databricks_App_Refund_Manager": ("Lakebase_Reverse_ETL",),
        "Complaint_Agent": (_PIPELINE,),
        "Complaint_Generator_Stream": (_PIPELINE,),
        "Complaint_Agent_Stream": ("Complaint_Agent", "Complaint_Generator_Stream"),
        "Complaint_Lakebase": ("Complaint_Agent_Stream",),
    }
)
"""Each task with the tasks that it comes right after, upstream first."""

_REFUNDS = tuple(name for name in AFTER if "Complaint" not in name)

TARGETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "default": _REFUNDS,
        "complaints": tuple(
            name for name in AFTER if "Complaint" in name or name in {_DATA, _PIPELINE}
        ),
        "free": (_DATA, _PIPELINE),
        "all": tuple(AFTER),
    }
)
"""The tasks of each target, in the graph's order."""


def target_tasks(target: str) -> dict[str, tuple[str, ...]]:
    """A target's tasks with what each comes after, in the graph's order.

    Args:
        target: one of `TARGETS`.

    Raises:
        SettingsError: there is no such target.
    """
    if target not in TARGETS:
        raise SettingsError(
            f"TARGET is {target!r}; allowed are {', '.join(get_args(TargetName))}",
            hint="set it by --target, job parameter or CASPERS_TARGET",
        )
    return {name: AFTER[name] for name in TARGETS[target]}


def checked_graph(after: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The tasks in an order in which each comes after all that it depends on.

    Args:
        after: each task with the tasks that it comes right after.

    Raises:
        SettingsError: a task comes after one that isn't there, or after itself by a cycle.
    """
    unknown = [
        (name, other) for name, others in after.items() for other in set(others) - set(after)
    ]
    if unknown:
        name, other = min(unknown)
        raise SettingsError(
            f"The task {name} comes after {other}, which is not in the graph",
            hint=f"the graph has {', '.join(after)}",
        )
    ordered: list[str] = []
    while len(ordered) < len(after):
        ready = [n for n in after if n not in ordered and set(after[n]) <= set(ordered)]
        if not ready:
            left = ", ".join(name for name in after if name not in ordered)
            raise SettingsError(
                f"The tasks {left} wait for one another in a cycle",
                hint="take one of their dependencies away",
            )
        ordered += ready
    return tuple(ordered)
