# Databricks notebook source
# MAGIC %md
# MAGIC # Refund recommender agent
# MAGIC Makes the SQL tools and brings the refund agent to its serving endpoint.

# COMMAND ----------

"""The refund agent's tools and its endpoint."""

from caspers_lib.workspace import Workspace, refund_recommender_agent, settings_from_widgets

settings = settings_from_widgets(dbutils)  # noqa: F821

# COMMAND ----------

outcome = refund_recommender_agent(Workspace.here(settings, spark))  # noqa: F821
display(outcome.frame(spark))  # noqa: F821
