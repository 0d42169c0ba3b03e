"""The tasks of the agents: their SQL tools, models and endpoints, and their streams.

Each may be called again: what is there already is kept.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import caspers_lib
from caspers_lib.agents.serving.agent_logic import AgentKind
from caspers_lib.agents.serving.deployment import (
    AgentResources,
    agent_model_name,
    register_agent,
    serve_agent,
)
from caspers_lib.agents.tools import AI_SCHEMA, LOCATION_VIEW, TOOL_NAMES, tools_ddl
from caspers_lib.domain.tables import Table
from caspers_lib.workspace.context import TaskOutcome, Workspace
from caspers_lib.workspace.lakebase_places import refresh
from caspers_lib.workspace.lakehouse import StreamName, agent_tables_in
from caspers_lib.workspace.ledger import Wanted
from caspers_lib.workspace_calls import asked

__all__ = [
    "complaint_agent",
    "complaint_agent_stream",
    "complaint_generator_stream",
    "refund_recommender_agent",
    "refund_recommender_stream",
]


def refund_recommender_agent(workspace: Workspace) -> TaskOutcome:
    """The SQL tools, and the refund agent on its endpoint.

    Args:
        workspace: where.

    Raises:
        WorkspaceError: something could not be made, or its name is taken.
        CaspersError: the agent could not be registered or served.
    """
    endpoint = workspace.settings.refund_agent_endpoint_name
    return _agent(workspace, "Refund_Recommender_Agent", "refund", endpoint)


def complaint_agent(workspace: Workspace) -> TaskOutcome:
    """The SQL tools, and the complaint agent on its endpoint.

    Args:
        workspace: where.

    Raises:
        WorkspaceError: something could not be made, or its name is taken.
        CaspersError: the agent could not be registered or served.
    """
    endpoint = workspace.settings.complaint_agent_endpoint_name
    return _agent(workspace, "Complaint_Agent", "complaint", endpoint)


def refund_recommender_stream(workspace: Workspace) -> TaskOutcome:
    """A recommendation for each order that was delivered since the last run.

    Args:
        workspace: where.

    Raises:
        WorkspaceError: a table could not be made.
        PipelineError: the stream failed; the next run goes on.
    """
    return _stream(workspace, "Refund_Recommender_Stream", "refunds")


def complaint_generator_stream(workspace: Workspace) -> TaskOutcome:
    """Complaints of some whose orders were delivered since the last run.

    Args:
        workspace: where.

    Raises:
        WorkspaceError: a table could not be made.
        PipelineError: the stream failed; the next run goes on.
    """
    return _stream(workspace, "Complaint_Generator_Stream", "complaints")


def complaint_agent_stream(workspace: Workspace) -> TaskOutcome:
    """An answer to each complaint that was written since the last run.

    Args:
        workspace: where.

    Raises:
        WorkspaceError: a table could not be made.
        PipelineError: the stream failed; the next run goes on.
    """
    return _stream(workspace, "Complaint_Agent_Stream", "responses")


def _agent(workspace: Workspace, task: str, kind: AgentKind, endpoint: str) -> TaskOutcome:
    made = list(workspace.ledger.ensure_all(_tools(workspace)))
    settings = workspace.settings
    resources = AgentResources(
        model_endpoint=settings.llm_model, warehouse_id=settings.warehouse_id or None
    )
    catalog = settings.catalog
    model = agent_model_name(kind, catalog=catalog)
    print_ = _digest([_code_digest(), catalog, repr(resources)])
    registered = workspace.ledger.ensure(
        "registered_model",
        model,
        lambda: register_agent(kind, catalog=catalog, resources=resources, mlflow=workspace.mlflow),
        fingerprint=print_,
    )
    served = workspace.ledger.ensure(
        "serving_endpoint",
        endpoint,
        lambda: serve_agent(workspace.client, endpoint, model=model, version=registered.detail),
        fingerprint=_digest([model, registered.detail]),
    )
    made += [registered, served]
    return TaskOutcome(
        task=task,
        done=f"{endpoint} serves {model} version {registered.detail}",
        resources=tuple(made),
    )


def _tools(workspace: Workspace) -> list[Wanted]:
    """The view and the functions; each anew where its text has changed."""
    catalog, schema = workspace.lakehouse.catalog, workspace.settings.simulator_schema
    names = (LOCATION_VIEW, *TOOL_NAMES)
    tables = replace(agent_tables_in(catalog), dimensions=schema)
    statements = tools_ddl(catalog=catalog, tables=tables)
    return [
        Wanted(
            kind="view" if name == LOCATION_VIEW else "function",
            name=workspace.full_name(AI_SCHEMA, name),
            create=lambda statement=statement: workspace.lakehouse.execute(statement),  # type: ignore[misc]
            fingerprint=_digest([statement]),
        )
        for name, statement in zip(names, statements, strict=True)
    ]


def _stream(workspace: Workspace, task: str, stream: StreamName) -> TaskOutcome:
    tables = agent_tables_in(workspace.lakehouse.catalog)
    both = [tables.complaints, tables.responses]
    own = [tables.recommendations] if stream == "refunds" else both
    own += [tables.model_calls, tables.open_questions]
    made = workspace.ledger.ensure_all([_table(workspace, table) for table in own])
    events = ".".join(tables.events.split(".")[-2:])
    done = f"waits for Spark_Declarative_Pipeline: there is no table {events} yet"
    there = asked(
        f"The table {events} can't be read",
        lambda: workspace.client.tables.exists(workspace.full_name(events)),
    )
    if there.table_exists:
        who = workspace.lakehouse.run_stream(stream, workspace.client)
        done = f"all up to now, by {who}"
        if stream == "refunds" and refresh(workspace):
            done = f"{done}; the orders' synced tables follow"
    return TaskOutcome(task=task, done=done, resources=made)


def _table(workspace: Workspace, table: Table) -> Wanted:
    return Wanted(
        kind="table",
        name=workspace.full_name(*table.name.split(".")[-2:]),
        create=lambda: workspace.lakehouse.execute(table.create_sql()),
    )


def _code_digest() -> str:
    """Digest of this package's code, which an agent is logged with."""
    package = Path(caspers_lib.__file__).parent
    files = sorted(package.rglob("*.py"))
    return _digest(f"{file.relative_to(package)}:{file.read_text('utf-8')}" for file in files)


def _digest(texts: Iterable[str]) -> str:
    found = hashlib.sha256()
    for text in texts:
        found.update(len(text).to_bytes(8, "big") + text.encode())
    return found.hexdigest()[:16]
