"""The bundle that is shipped, as tests read and deploy it."""

from pathlib import Path
from typing import Any

from caspers_lib.runtime.settings import Settings, load_settings
from tests.bundle.configuration import Target, read_target
from tests.bundle.deployment import Deployment

__all__ = ["BUNDLE", "CATALOG", "shipped", "task_settings"]

BUNDLE = Path(__file__).parents[2] / "examples" / "bundle"
CATALOG = "caspersdev_all"


def shipped(name: str = "all", **variables: Any) -> Target:
    """A target as `--var catalog=caspersdev_all` makes it.

    Args:
        name: the target.
        variables: more of them.
    """
    return read_target(BUNDLE, name, {"catalog": CATALOG, **variables})


def task_settings(deployment: Deployment) -> Settings:
    """The settings that the initializer hands to its tasks.

    Args:
        deployment: has the initializer.
    """
    made = deployment.state["jobs", "initializer"]
    told = {each["name"]: str(each["default"]) for each in made.body["parameters"]}
    run = {name: text.replace("{{job.id}}", str(made.identity)) for name, text in told.items()}
    return load_settings(parameters=run)
