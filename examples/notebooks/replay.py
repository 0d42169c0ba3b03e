# Databricks notebook source
# MAGIC %md
# MAGIC # Replay
# MAGIC Writes the events whose time has come since the last run; the bundle runs it every few
# MAGIC minutes.

# COMMAND ----------

"""The events whose time has come."""

from caspers_lib.workspace import Workspace, replay_tick, settings_from_widgets

settings = settings_from_widgets(dbutils)  # noqa: F821

# COMMAND ----------

outcome = replay_tick(Workspace.here(settings, spark))  # noqa: F821
display(outcome.frame(spark))  # noqa: F821
