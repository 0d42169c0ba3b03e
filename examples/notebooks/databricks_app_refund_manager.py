# Databricks notebook source
# MAGIC %md
# MAGIC # Refund manager app
# MAGIC Deploys the console's code to the bundle's app and lets the app read the refunds'
# MAGIC database.

# COMMAND ----------

"""The console, served as an app."""

from caspers_lib.workspace import (
    Workspace,
    databricks_app_refund_manager,
    settings_from_widgets,
)

settings = settings_from_widgets(dbutils)  # noqa: F821

# COMMAND ----------

outcome = databricks_app_refund_manager(Workspace.here(settings, spark))  # noqa: F821
display(outcome.frame(spark))  # noqa: F821
