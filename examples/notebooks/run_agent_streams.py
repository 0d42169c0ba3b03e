# Databricks notebook source
# MAGIC %md
# MAGIC # Run the agents' streams once
# MAGIC Refunds for what was delivered, complaints of some customers, answers to them: each stream
# MAGIC takes what is new since its last run, which its checkpoint in its schema's volume remembers.

# COMMAND ----------

"""Refunds, complaints and answers for what is new since the last run."""

from pyspark.sql import SparkSession

from caspers_lib.agents.model.answers import ModelAnswers
from caspers_lib.agents.streams import run_complaint_stream, run_refund_stream, run_response_stream
from caspers_lib.agents.tables import AGENT_TABLES, ensure_tables
from caspers_lib.runtime.settings import load_settings
from caspers_lib.spark_sql import quote_name

# COMMAND ----------

settings = load_settings()
catalog: str | None = settings.catalog  # None is the session's own
volumes = f"/Volumes/{settings.catalog}"
tables = AGENT_TABLES
complaint_rate, seed = settings.complaint_rate, 42
# By the rules alone; a model or a served agent answers with ModelAnswers(asker=HttpAsker(...)).
refund_model: ModelAnswers | None = None
complaint_model: ModelAnswers | None = None

# COMMAND ----------

spark = SparkSession.active()
if catalog is not None:
    spark.sql(f"USE CATALOG {quote_name(catalog)}")
ensure_tables(spark, tables)

# COMMAND ----------

checkpoint = f"{volumes}/recommender/checkpoints/refunds"
run_refund_stream(spark, checkpoint, tables=tables, model=refund_model)

# COMMAND ----------

checkpoint = f"{volumes}/complaints/checkpoints/complaints"
run_complaint_stream(spark, checkpoint, complaint_rate, seed, tables=tables)

# COMMAND ----------

checkpoint = f"{volumes}/complaints/checkpoints/responses"
run_response_stream(spark, checkpoint, tables=tables, model=complaint_model)

# COMMAND ----------

for table in (tables.recommendations, tables.complaints, tables.responses):
    print(f"{table.name}: {spark.read.table(table.name).count():,} rows")
