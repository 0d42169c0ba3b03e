# Databricks notebook source
# MAGIC %md
# MAGIC # Complaint generator stream
# MAGIC Lets a share of the customers complain whose orders were delivered since the last run.

# COMMAND ----------

"""Complaints about the orders delivered since the last run."""

from caspers_lib.workspace import (
    Workspace,
    complaint_generator_stream,
    settings_from_widgets,
)

settings = settings_from_widgets(dbutils)  # noqa: F821

# COMMAND ----------

outcome = complaint_generator_stream(Workspace.here(settings, spark))  # noqa: F821
display(outcome.frame(spark))  # noqa: F821
