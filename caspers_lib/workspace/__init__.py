"""A deployment in a Databricks workspace: its tasks, the account of what they made, its removal.

A notebook's whole program:

    settings = settings_from_widgets(dbutils)
    outcome = canonical_data(Workspace.here(settings, spark))
    display(outcome.frame(spark))
"""

from caspers_lib.workspace.agent_tasks import (
    complaint_agent,
    complaint_agent_stream,
    complaint_generator_stream,
    refund_recommender_agent,
    refund_recommender_stream,
)
from caspers_lib.workspace.context import TaskOutcome, Workspace, workspace_client
from caspers_lib.workspace.data_tasks import (
    canonical_data,
    replay_control,
    replay_tick,
    spark_declarative_pipeline,
)
from caspers_lib.workspace.notebook import destroy_workspace, settings_from_widgets
from caspers_lib.workspace.serving_tasks import (
    complaint_lakebase,
    databricks_app_refund_manager,
    lakebase_reverse_etl,
)
from caspers_lib.workspace.tasks import TASKS

__all__ = [
    "TASKS",
    "TaskOutcome",
    "Workspace",
    "canonical_data",
    "complaint_agent",
    "complaint_agent_stream",
    "complaint_generator_stream",
    "complaint_lakebase",
    "databricks_app_refund_manager",
    "destroy_workspace",
    "lakebase_reverse_etl",
    "refund_recommender_agent",
    "refund_recommender_stream",
    "replay_control",
    "replay_tick",
    "settings_from_widgets",
    "spark_declarative_pipeline",
    "workspace_client",
]
