"""The graph of tasks and its targets (docs/contracts.md, Tasks and targets)."""

import pytest

from caspers_lib.errors import SettingsError
from caspers_lib.runtime.local_business import LocalBusiness
from caspers_lib.runtime.local_root import LocalRoot
from caspers_lib.runtime.settings import load_settings
from caspers_lib.runtime.task_graph import AFTER, TARGETS, checked_graph, target_tasks
from caspers_lib.workspace import TASKS


def test_the_graph_is_whole_and_every_target_is_closed() -> None:
    assert set(checked_graph(AFTER)) == set(AFTER)
    for target in TARGETS:
        assert set(checked_graph(target_tasks(target))) == set(TARGETS[target])


def test_the_targets_have_the_contracts_tasks() -> None:
    assert {target: len(tasks) for target, tasks in TARGETS.items()} == {
        "default": 6,
        "complaints": 6,
        "free": 2,
        "all": 10,
    }
    assert not [name for name in TARGETS["default"] if "Complaint" in name]
    assert not [name for name in TARGETS["complaints"] if "Refund" in name]


def test_every_task_has_its_work_and_no_other_has() -> None:
    assert tuple(TASKS) == tuple(AFTER)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"a": ("b",)}, "The task a comes after b, which is not in the graph"),
        ({"a": ("b",), "b": ("a",), "c": ()}, "The tasks a, b wait for one another in a cycle"),
        ({"a": ("a",)}, "The tasks a wait for one another in a cycle"),
    ],
)
def test_a_graph_that_can_not_run_is_refused(after: dict[str, tuple[str, ...]], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        checked_graph(after)
    assert refused.value.message == said


def test_an_unknown_target_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(SettingsError, match="TARGET is 'everything'; allowed are default, comp"):
        target_tasks("everything")


@pytest.mark.parametrize("target", TARGETS)
def test_a_laptop_runs_the_same_graph_after_its_servers(target: str, tmp_path: object) -> None:
    business = LocalBusiness(LocalRoot(tmp_path, load_settings(environment={})))  # type: ignore[arg-type]
    local = {stage.name: set(stage.after) for stage in business.start_up(target)}
    checked_graph({name: tuple(after) for name, after in local.items()})
    for name, after in target_tasks(target).items():
        assert set(after) <= local[name]
        own = local[name] - set(after) - {"Dimension_Tables"}
        assert all(extra.startswith("Local_") for extra in own)
    others = set(local) - set(TARGETS[target])
    assert others <= {"Local_Postgres", "Local_Spark", "Dimension_Tables", "Order_Lakebase"}
