# Databricks notebook source
# MAGIC %md
# MAGIC # Canonical data
# MAGIC Makes the dataset and the dimension tables if they aren't there, and replays the first
# MAGIC events into the volume.

# COMMAND ----------

"""The dataset, the dimensions and the first events."""

from caspers_lib.workspace import Workspace, canonical_data, settings_from_widgets

settings = settings_from_widgets(dbutils)  # noqa: F821

# COMMAND ----------

outcome = canonical_data(Workspace.here(settings, spark))  # noqa: F821
display(outcome.frame(spark))  # noqa: F821
