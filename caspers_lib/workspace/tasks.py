"""The ten tasks by their names in the graph."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from caspers_lib.workspace.agent_tasks import (
    complaint_agent,
    complaint_agent_stream,
    complaint_generator_stream,
    refund_recommender_agent,
    refund_recommender_stream,
)
from caspers_lib.workspace.context import TaskOutcome, Workspace
from caspers_lib.workspace.data_tasks import canonical_data, spark_declarative_pipeline
from caspers_lib.workspace.serving_tasks import (
    complaint_lakebase,
    databricks_app_refund_manager,
    lakebase_reverse_etl,
)

__all__ = ["TASKS"]

TASKS: Mapping[str, Callable[[Workspace], TaskOutcome]] = MappingProxyType(
    {
        "Canonical_Data": canonical_data,
        "Spark_Declarative_Pipeline": spark_declarative_pipeline,
        "Refund_Recommender_Agent": refund_recommender_agent,
        "Refund_Recommender_Stream": refund_recommender_stream,
        "Lakebase_Reverse_ETL": lakebase_reverse_etl,
        "Databricks_App_Refund_Manager": databricks_app_refund_manager,
        "Complaint_Agent": complaint_agent,
        "Complaint_Generator_Stream": complaint_generator_stream,
        "Complaint_Agent_Stream": complaint_agent_stream,
        "Complaint_Lakebase": complaint_lakebase,
    }
)
"""Each task's work, in the graph's order."""
