"""mlflow as far as an agent's deployment uses it; a version appears in the loopback workspace."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tests.workspace_fake import LoopbackWorkspace


class MlflowException(Exception):
    """What mlflow refuses with."""


class MlflowRegistry:
    """The module `mlflow`; an attribute that it doesn't have fails the test.

    Args:
        workspace: gets the versions.
        step: called before a model is logged.
        configs: gets what each model was logged with, by its name.
    """

    exceptions = SimpleNamespace(MlflowException=MlflowException)
    models = SimpleNamespace(
        resources=SimpleNamespace(
            DatabricksFunction=SimpleNamespace,
            DatabricksSQLWarehouse=SimpleNamespace,
            DatabricksServingEndpoint=SimpleNamespace,
            DatabricksTable=SimpleNamespace,
        )
    )

    def __init__(
        self,
        workspace: LoopbackWorkspace,
        step: Callable[[str], None] = lambda _what: None,
        configs: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.workspace = workspace
        self.step = step
        self.logged: list[str] = []
        self.configs = {} if configs is None else configs
        self.pyfunc = SimpleNamespace(log_model=self._log_model)

    def set_registry_uri(self, uri: str) -> None:
        assert uri == "databricks-uc"

    def _log_model(
        self, *, name: str, python_model: str, code_paths: list[str], model_config: dict[str, Any],
        resources: list[Any], input_example: dict[str, Any], pip_requirements: list[str],
        registered_model_name: str,
    ) -> SimpleNamespace:  # fmt: skip
        assert name and python_model and code_paths and input_example and pip_requirements
        assert registered_model_name.startswith(f"{model_config['catalog']}.")
        assert isinstance(resources, list)
        self.step(f"before log {registered_model_name}")
        version = self.workspace.add_model_version(registered_model_name)
        self.logged.append(registered_model_name)
        self.configs[registered_model_name] = model_config
        self.step(f"after log {registered_model_name}")
        return SimpleNamespace(registered_model_version=version)
