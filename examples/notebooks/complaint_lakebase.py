# Databricks notebook source
# MAGIC %md
# MAGIC # Complaints to Lakebase
# MAGIC Makes the complaints' Postgres project and the synced table that follows the answers.

# COMMAND ----------

"""The answers to complaints, followed in Postgres."""

from caspers_lib.workspace import Workspace, complaint_lakebase, settings_from_widgets

settings = settings_from_widgets(dbutils)  # noqa: F821

# COMMAND ----------

outcome = complaint_lakebase(Workspace.here(settings, spark))  # noqa: F821
display(outcome.frame(spark))  # noqa: F821
