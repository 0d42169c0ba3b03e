# Databricks notebook source
# MAGIC %md
# MAGIC # Destroy
# MAGIC Takes away what the initializer made, in reverse order. Run again after a failure, it
# MAGIC resumes. What the bundle made goes with `databricks bundle destroy`.

# COMMAND ----------

"""Everything that the initializer made, taken away."""

from caspers_lib.workspace import Workspace, destroy_workspace, settings_from_widgets

settings = settings_from_widgets(dbutils)  # noqa: F821

# COMMAND ----------

outcome = destroy_workspace(Workspace.here(settings, spark))  # noqa: F821
display(outcome.frame(spark))  # noqa: F821
