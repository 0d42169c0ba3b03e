# Databricks notebook source
# MAGIC %md
# MAGIC # Refund recommender stream
# MAGIC Recommends a refund for each order that was delivered since the last run, which a
# MAGIC checkpoint remembers.

# COMMAND ----------

"""Refunds for the orders delivered since the last run."""

from caspers_lib.workspace import (
    Workspace,
    refund_recommender_stream,
    settings_from_widgets,
)

settings = settings_from_widgets(dbutils)  # noqa: F821

# COMMAND ----------

outcome = refund_recommender_stream(Workspace.here(settings, spark))  # noqa: F821
display(outcome.frame(spark))  # noqa: F821
