# Databricks notebook source
# MAGIC %md
# MAGIC # Complaint agent stream
# MAGIC Answers the complaints that came in since the last run.

# COMMAND ----------

"""Answers to the complaints since the last run."""

from caspers_lib.workspace import Workspace, complaint_agent_stream, settings_from_widgets

settings = settings_from_widgets(dbutils)  # noqa: F821

# COMMAND ----------

outcome = complaint_agent_stream(Workspace.here(settings, spark))  # noqa: F821
display(outcome.frame(spark))  # noqa: F821
