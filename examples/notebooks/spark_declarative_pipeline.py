# Databricks notebook source
# MAGIC %md
# MAGIC # Spark declarative pipeline
# MAGIC Sees that the bundle's pipeline runs and that bronze, silver and gold have rows.

# COMMAND ----------

"""The pipeline, running, with rows in its tables."""

from caspers_lib.workspace import (
    Workspace,
    settings_from_widgets,
    spark_declarative_pipeline,
)

settings = settings_from_widgets(dbutils)  # noqa: F821

# COMMAND ----------

outcome = spark_declarative_pipeline(Workspace.here(settings, spark))  # noqa: F821
display(outcome.frame(spark))  # noqa: F821
