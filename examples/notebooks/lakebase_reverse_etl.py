# Databricks notebook source
# MAGIC %md
# MAGIC # Refunds to Lakebase
# MAGIC Makes the refunds' Postgres project and the synced table that follows the
# MAGIC recommendations.

# COMMAND ----------

"""The recommended refunds, followed in Postgres."""

from caspers_lib.workspace import Workspace, lakebase_reverse_etl, settings_from_widgets

settings = settings_from_widgets(dbutils)  # noqa: F821

# COMMAND ----------

outcome = lakebase_reverse_etl(Workspace.here(settings, spark))  # noqa: F821
display(outcome.frame(spark))  # noqa: F821
