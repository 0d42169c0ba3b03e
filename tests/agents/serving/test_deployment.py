"""An agent goes to Model Serving: mlflow itself on a local store, a stand-in for the workspace."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from databricks.sdk.errors.platform import NotFound, PermissionDenied, ResourceConflict
from databricks.sdk.errors.sdk import OperationFailed
from databricks.sdk.service.sql import StatementState

import caspers_lib
from caspers_lib.agents.model.endpoint_names import checked_endpoint_name
from caspers_lib.agents.serving.agent_logic import AgentKind, ComplaintAgent, RefundAgent
from caspers_lib.agents.serving.deployment import AgentResources, DeployedAgent, log_and_deploy
from caspers_lib.agents.serving.quiet_mlflow import mlflow as real_mlflow
from caspers_lib.agents.serving.served import endpoint_settings, served_logic
from caspers_lib.errors import CaspersError, SettingsError
from tests.agents.serving.test_agent_logic import ALONE, COMPLAINT, FACTS, HOSTILE, said

ALL = AgentResources(model_endpoint="databricks-llm", warehouse_id="0a1b")


# Stand-ins: each knows what the real one knows as far as it is used, and nothing else.


class FakeMlflow:
    """mlflow with a registry in memory."""

    exceptions = real_mlflow.exceptions
    models = real_mlflow.models

    def __init__(self, *, refuses: str = "") -> None:
        self.refuses = refuses
        self.registry = ""
        self.logged: dict[str, Any] = {}
        self.pyfunc = SimpleNamespace(log_model=self._log_model)

    def set_registry_uri(self, uri: str) -> None:
        self.registry = uri

    def _log_model(
        self, *, name: str, python_model: str, code_paths: list[str], model_config: dict[str, Any],
        resources: list[Any], input_example: dict[str, Any], pip_requirements: list[str],
        registered_model_name: str,
    ) -> SimpleNamespace:  # fmt: skip
        if self.refuses:
            raise real_mlflow.exceptions.MlflowException(f"{self.refuses}\nstack")
        self.logged = {
            "name": name, "python_model": python_model, "code_paths": code_paths,
            "model_config": model_config, "input_example": input_example,
            "resources": {(type(r).__name__, r.name) for r in resources},
            "pip_requirements": pip_requirements, "registered": registered_model_name,
        }  # fmt: skip
        return SimpleNamespace(registered_model_version=7)


@dataclass
class FakeEndpoints:
    """The serving endpoints of a workspace."""

    served: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    create_fails: Exception | None = None
    update_fails: Exception | None = None
    is_broken: bool = False

    def get(self, name: str) -> SimpleNamespace:
        self.calls.append("get")
        if name not in self.served:
            raise NotFound(f"{name} does not exist")
        return SimpleNamespace(name=name)

    def create_and_wait(self, name: str, *, config: Any, timeout: timedelta) -> None:
        self.calls.append(f"create {timeout}")
        if self.create_fails:
            raise self.create_fails
        assert config.name is None
        self._serve(name, config.served_entities)

    def wait_get_serving_endpoint_not_updating(self, name: str, *, timeout: timedelta) -> None:
        self.calls.append(f"wait {timeout}")
        assert name in self.served
        if self.is_broken:
            raise OperationFailed("failed to reach NOT_UPDATING, got UPDATE_FAILED")

    def update_config_and_wait(
        self, name: str, *, served_entities: list[Any], timeout: timedelta
    ) -> None:
        self.calls.append(f"update {timeout}")
        if self.update_fails:
            raise self.update_fails
        assert name in self.served
        self._serve(name, served_entities)

    def _serve(self, name: str, entities: list[Any]) -> None:
        [entity] = entities
        assert (entity.workload_size, entity.scale_to_zero_enabled) == ("Small", True)
        self.served[name] = f"{entity.entity_name} {entity.entity_version}"


def deploy(
    endpoints: FakeEndpoints, mlflow: FakeMlflow | None = None, **options: Any
) -> DeployedAgent:
    fitting = {"kind": "refund", "endpoint_name": "agent", "catalog": "cat", "schema": "ai"}
    return log_and_deploy(
        **(fitting | options),
        client=SimpleNamespace(serving_endpoints=endpoints),  # type: ignore[arg-type]
        mlflow=mlflow or FakeMlflow(),  # type: ignore[arg-type]
        timeout=timedelta(minutes=5),
    )


# Names.


@pytest.mark.parametrize("name", ["a", "caspers_refund_agent", "A-1_b", "x" * 63])
def test_a_name_of_letters_digits_and_dashes_is_one_of_an_endpoint(name: str) -> None:
    assert checked_endpoint_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "x" * 64, "a b", "a.b", "a/b", "o'agent", 'say "so"', "a\n", "é", "a;--", "`a`"]
)
def test_any_other_name_is_refused_before_anything_is_done(name: str) -> None:
    endpoints, mlflow = FakeEndpoints(), FakeMlflow()
    with pytest.raises(SettingsError, match="it must be 1 to 63 letters, digits, - or _"):
        deploy(endpoints, mlflow, endpoint_name=name)
    with pytest.raises(SettingsError, match="The endpoint's name is"):
        AgentResources(model_endpoint=name)
    assert (endpoints.calls, mlflow.logged) == ([], {})


@pytest.mark.parametrize(("what", "name"), [("catalog", "a.b"), ("schema", ""), ("schema", "a b")])
def test_a_schema_that_can_t_be_one_is_refused_before_anything_is_done(
    what: str, name: str
) -> None:
    endpoints, mlflow = FakeEndpoints(), FakeMlflow()
    with pytest.raises(SettingsError, match=f"{what} is '"):
        deploy(endpoints, mlflow, **{what: name})
    assert (endpoints.calls, mlflow.logged) == ([], {})


def test_a_warehouse_s_id_is_no_sql() -> None:
    with pytest.raises(SettingsError, match="warehouse_id is 'w; --'"):
        AgentResources(warehouse_id="w; --")


# What is logged.


def test_the_agent_is_logged_from_code_with_this_package_and_registered() -> None:
    mlflow = FakeMlflow()
    deployed = deploy(FakeEndpoints(), mlflow, kind="complaint")
    assert deployed == DeployedAgent(model="cat.ai.complaint_agent", version="7", endpoint="agent")
    package = Path(caspers_lib.__file__).parent
    assert mlflow.registry == "databricks-uc"
    assert mlflow.logged["registered"] == "cat.ai.complaint_agent"
    assert mlflow.logged["python_model"] == str(
        package / "agents" / "serving" / "served_complaint.py"
    )
    assert mlflow.logged["code_paths"] == [str(package)]
    names = {r.partition("==")[0] for r in mlflow.logged["pip_requirements"]}
    assert names >= {"mlflow-skinny", "pydantic", "httpx", "databricks-sdk"}
    assert all("==" in r for r in mlflow.logged["pip_requirements"])


def test_by_the_rules_alone_nothing_is_declared() -> None:
    mlflow = FakeMlflow()
    deploy(FakeEndpoints(), mlflow)
    assert mlflow.logged["resources"] == set()
    config = mlflow.logged["model_config"]
    assert {config[name] for name in ("model_endpoint", "warehouse_id")} == {None}


def test_all_that_the_agent_uses_is_declared() -> None:
    mlflow = FakeMlflow()
    deploy(FakeEndpoints(), mlflow, resources=ALL)
    assert mlflow.logged["resources"] == {
        ("DatabricksServingEndpoint", "databricks-llm"),
        ("DatabricksSQLWarehouse", "0a1b"),
        ("DatabricksFunction", "cat.ai.get_order_timing"),
        ("DatabricksFunction", "cat.ai.get_order_overview"),
        ("DatabricksTable", "cat.lakeflow.all_events"),
        ("DatabricksTable", "cat.lakeflow.silver_order_items"),
    }


def test_a_registry_that_refuses_is_one_sentence_and_nothing_is_served() -> None:
    endpoints = FakeEndpoints()
    with pytest.raises(
        CaspersError, match=r"not registered as cat\.ai\.refund_agent: no"
    ) as failed:
        deploy(endpoints, FakeMlflow(refuses="no permission"))
    assert "\n" not in failed.value.message
    assert endpoints.calls == []


# How it is served.


def test_an_endpoint_that_is_not_there_is_created() -> None:
    endpoints = FakeEndpoints()
    deploy(endpoints)
    assert endpoints.served == {"agent": "cat.ai.refund_agent 7"}
    assert endpoints.calls == ["get", "create 0:05:00"]


@pytest.mark.parametrize("is_broken", [False, True])
def test_an_endpoint_that_is_there_gets_the_new_version_when_it_is_free(is_broken: bool) -> None:
    endpoints = FakeEndpoints(served={"agent": "cat.ai.refund_agent 6"}, is_broken=is_broken)
    deploy(endpoints)
    assert endpoints.served == {"agent": "cat.ai.refund_agent 7"}
    assert endpoints.calls == ["get", "wait 0:05:00", "update 0:05:00"]


def test_an_endpoint_that_somebody_made_in_the_meantime_is_updated() -> None:
    class Raced(FakeEndpoints):
        def create_and_wait(self, name: str, **_: Any) -> None:
            self.served[name] = "another one"
            raise ResourceConflict("exists")

    endpoints = Raced()
    deploy(endpoints)
    assert endpoints.served == {"agent": "cat.ai.refund_agent 7"}


@pytest.mark.parametrize(
    "error", [PermissionDenied("not yours\nat all"), OperationFailed("no"), TimeoutError("5 min")]
)
def test_an_endpoint_that_fails_is_one_sentence_that_says_what_is_registered(
    error: Exception,
) -> None:
    for endpoints in (
        FakeEndpoints(create_fails=error),
        FakeEndpoints(served={"agent": "older"}, update_fails=error),
    ):
        with pytest.raises(CaspersError) as failed:
            deploy(endpoints)
        said_ = failed.value.message
        assert said_.startswith("The endpoint agent does not serve cat.ai.refund_agent version 7: ")
        assert "\n" not in said_
        assert failed.value.__cause__ is error


# What was logged is loaded by mlflow itself.


class LocalMlflow(FakeMlflow):
    """mlflow itself; what it would register stays in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def _log_model(self, **options: Any) -> SimpleNamespace:
        options.pop("name")
        options.pop("registered_model_name")
        real_mlflow.pyfunc.save_model(str(self.folder), **options)
        return SimpleNamespace(registered_model_version=1)


@pytest.mark.parametrize(
    ("kind", "request_", "expected"),
    [
        ("refund", FACTS, RefundAgent().reply(said(FACTS)).answer),
        ("complaint", COMPLAINT, ComplaintAgent().reply(said(COMPLAINT)).answer),
    ],
)
@pytest.mark.parametrize("resources", [None, ALL])
def test_a_logged_agent_answers_when_mlflow_loads_it(
    tmp_path: Path, kind: AgentKind, request_: dict[str, Any], expected: str,
    resources: AgentResources | None,
) -> None:  # fmt: skip
    folder = tmp_path / "model"
    deploy(FakeEndpoints(), LocalMlflow(folder), kind=kind, resources=resources)
    loaded = real_mlflow.pyfunc.load_model(str(folder))
    if resources is None:
        request = {"input": [{"role": "user", "content": said(request_)}]}
        answer = loaded.predict(request)["output"][0]["content"][0]["text"]
        assert answer == expected
    declared = real_mlflow.models.Model.load(str(folder)).resources
    assert ("databricks" in declared) == (resources is ALL)


def test_a_logged_agent_needs_nothing_but_what_was_logged(tmp_path: Path) -> None:
    """Its own copy of this package is enough, and pyspark is not."""
    folder = tmp_path / "model"
    deploy(FakeEndpoints(), LocalMlflow(folder))
    request = {"input": [{"role": "user", "content": said(FACTS)}]}
    program = (
        "import sys, json\n"
        "sys.modules['pyspark'] = None\n"
        f"sys.path = [p for p in sys.path if {str(Path(caspers_lib.__file__).parents[1])!r} != p]\n"
        "from mlflow.pyfunc import load_model\n"
        f"answer = load_model({str(folder)!r}).predict({request!r})\n"
        "import caspers_lib\n"
        "print(json.dumps([caspers_lib.__file__, answer['output'][0]['content'][0]['text']]))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    where, answer = json.loads(ran.stdout.splitlines()[-1])
    assert answer == RefundAgent().reply(said(FACTS)).answer
    assert Path(where).is_relative_to(folder)


def test_mlflow_logs_and_registers_it_in_a_store_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("GIT_PYTHON_REFRESH", "quiet")
    before = real_mlflow.get_tracking_uri()
    real_mlflow.set_tracking_uri(f"file://{tmp_path}/mlruns")

    class Mlflow(FakeMlflow):
        def _log_model(self, **options: Any) -> Any:
            return real_mlflow.pyfunc.log_model(**options)

    try:
        deployed = deploy(FakeEndpoints(), Mlflow())
        loaded = real_mlflow.pyfunc.load_model(f"models:/{deployed.model}/{deployed.version}")
    finally:
        real_mlflow.set_tracking_uri(before)
    request = {"input": [{"role": "user", "content": said(FACTS)}]}
    answer = loaded.predict(request)["output"][0]["content"][0]["text"]
    assert answer == RefundAgent().reply(said(FACTS)).answer


# What a served agent is made of.

TIMING = {
    "order_id": "o-1", "location_id": 3, "total_minutes": 41.37, "history_orders": 12, "p75": 30.00,
    "p99": 50.25, "delivered_ts": "2024-03-01T00:00:00.000Z",
}  # fmt: skip
OVERVIEW = {
    "order_id": "o-1",
    "order_total": 24.10,
    "lines": json.dumps(COMPLAINT["lines"]),
}


@dataclass
class FakeWorkspace:
    """A workspace with one warehouse and one model."""

    host: str = "https://host"
    rows: Callable[[str], list[dict[str, Any]]] = lambda tool: [
        TIMING if "timing" in tool else OVERVIEW
    ]
    state: StatementState = StatementState.SUCCEEDED
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    tokens: int = 0

    @property
    def config(self) -> SimpleNamespace:
        return SimpleNamespace(host=self.host, authenticate=self._authenticate)

    @property
    def statement_execution(self) -> SimpleNamespace:
        return SimpleNamespace(execute_statement=self._execute)

    def _authenticate(self) -> dict[str, str]:
        self.tokens += 1
        return {"Authorization": f"Bearer token-{self.tokens}"}

    def _execute(
        self, statement: str, warehouse_id: str, *, parameters: list[Any], wait_timeout: str
    ) -> SimpleNamespace:
        [parameter] = parameters
        self.asked.append((statement, warehouse_id, parameter.value))
        assert (parameter.name, parameter.type, wait_timeout) == ("oid", "STRING", "50s")
        error = SimpleNamespace(message="it sleeps\nnow")
        failed = self.state is not StatementState.SUCCEEDED
        data = [[json.dumps(row)] for row in self.rows(statement)]
        return SimpleNamespace(
            status=SimpleNamespace(state=self.state, error=error if failed else None),
            result=SimpleNamespace(data_array=data or None),
        )


CONFIG = {
    "model_endpoint": None, "warehouse_id": "0a1b", "catalog": "c`at",
    "tools_schema": "ai",
}  # fmt: skip


def test_a_served_agent_looks_orders_up_by_bound_values() -> None:
    workspace = FakeWorkspace()
    agent = served_logic("refund", CONFIG, client=lambda: workspace)  # type: ignore[arg-type,return-value]
    reply = agent.reply(said({"order_id": HOSTILE}))
    assert reply.answer == RefundAgent().reply(said(FACTS)).answer
    statements = [statement for statement, _, _ in workspace.asked]
    assert [s.partition(" FROM ")[2] for s in statements] == [
        "`c``at`.`ai`.`get_order_timing`(:oid)",
        "`c``at`.`ai`.`get_order_overview`(:oid)",
    ]
    assert {(w, value) for _, w, value in workspace.asked} == {("0a1b", HOSTILE)}


def test_a_served_complaint_agent_looks_lines_up_as_well() -> None:
    agent = served_logic("complaint", CONFIG, client=FakeWorkspace)  # type: ignore[arg-type,return-value]
    assert agent.reply(said(ALONE)).answer == ComplaintAgent().reply(said(COMPLAINT)).answer


@pytest.mark.parametrize(
    ("workspace", "reason"),
    [
        (FakeWorkspace(rows=lambda _: []), "There is no order 'o-1'"),
        (
            FakeWorkspace(state=StatementState.FAILED),
            "Order 'o-1' could not be looked up: The warehouse 0a1b gave no answer: it sleeps",
        ),
    ],
)
def test_an_order_that_a_warehouse_does_not_tell_is_not_invented(
    workspace: FakeWorkspace, reason: str
) -> None:
    agent = served_logic("refund", CONFIG, client=lambda: workspace)  # type: ignore[arg-type,return-value]
    reply = agent.reply("o-1")
    assert (reply.answered_by, reply.note) == ("error", reason)


def test_an_order_that_is_under_way_has_no_refund_yet() -> None:
    way = {"total_minutes": None, "delivered_ts": None}
    workspace = FakeWorkspace(rows=lambda tool: [TIMING | way if "timing" in tool else OVERVIEW])
    agent = served_logic("refund", CONFIG, client=lambda: workspace)  # type: ignore[arg-type,return-value]
    reply = agent.reply("o-1")
    assert reply.answered_by == "error"
    assert "The time of the delivered event is missing" in (reply.answer or "")


def test_a_served_agent_asks_its_model_with_a_token_of_now() -> None:
    workspace = FakeWorkspace()
    first, second = (endpoint_settings("llm", workspace) for _ in range(2))  # type: ignore[arg-type]
    assert (first.secret, second.secret) == ("token-1", "token-2")
    assert (first.base_url, first.model) == ("https://host/serving-endpoints", "llm")
    assert "token-1" not in repr(first)


def test_a_served_agent_without_a_token_answers_by_the_rules() -> None:
    class Locked(FakeWorkspace):
        def _authenticate(self) -> dict[str, str]:
            raise PermissionDenied("no token\nfor you")

    agent = served_logic("refund", {"model_endpoint": "llm"}, client=Locked)  # type: ignore[arg-type]
    reply = agent.reply(said(FACTS))
    assert reply.answered_by == "rules"
    assert (reply.note or "").endswith("gives no access to its endpoints: no token")


def test_a_served_agent_without_a_model_or_lookup_asks_nobody() -> None:
    def never() -> Any:
        raise AssertionError("nobody asked")

    agent = served_logic("refund", {}, client=never)
    assert agent.reply(said(FACTS)).answered_by == "rules"
