# Databricks notebook source
# MAGIC %md
# MAGIC # Complaint agent
# MAGIC Makes the SQL tools and brings the complaint agent to its serving endpoint.

# COMMAND ----------

"""The complaint agent's tools and its endpoint."""

from caspers_lib.workspace import Workspace, complaint_agent, settings_from_widgets

settings = settings_from_widgets(dbutils)  # noqa: F821

# COMMAND ----------

outcome = complaint_agent(Workspace.here(settings, spark))  # noqa: F821
display(outcome.frame(spark))  # noqa: F821
