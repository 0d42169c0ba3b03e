# Databricks notebook source
# MAGIC %md
# MAGIC # Score one order
# MAGIC What the refund agent knows about an order, step by step, and what it recommends. It needs
# MAGIC bronze and `silver_order_items`, and makes the SQL tools if they aren't there.

# COMMAND ----------

"""What the refund agent knows about an order, and what it recommends."""

from pyspark.sql import SparkSession

from caspers_lib.agents.model import ModelSettings, ModelThread
from caspers_lib.agents.serving import RefundAgent, SparkLookup
from caspers_lib.agents.tables import AGENT_TABLES
from caspers_lib.agents.tools import call_tool, create_tools
from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.runtime.settings import load_settings
from caspers_lib.spark_sql import quote_name

# COMMAND ----------

catalog: str | None = load_settings().catalog  # None is the session's own
tools_schema = "ai"
tables = AGENT_TABLES
order_id: str | None = None  # None is the newest delivered order
model: ModelSettings | None = None  # such as ModelSettings(base_url="https://host/v1", model="m")

# COMMAND ----------

spark = SparkSession.active()
if catalog is not None:
    spark.sql(f"USE CATALOG {quote_name(catalog)}")
create_tools(spark, schema=tools_schema, tables=tables)

# COMMAND ----------

# MAGIC %md The order: what was in it, and how long it took compared with its location's last day.

# COMMAND ----------

delivered = spark.read.table(tables.events).where(f"event_type = '{GHOST_KITCHEN.closing}'")
order_id = order_id or delivered.orderBy("ts", "order_id", ascending=False).first()["order_id"]
for tool in ("get_order_overview", "get_order_details", "get_order_timing"):
    call_tool(spark, tool, order_id, schema=tools_schema).show(truncate=False, vertical=True)

# COMMAND ----------

# MAGIC %md The facts that decide, and the rules' answer.

# COMMAND ----------

lookup = SparkLookup(spark=spark, schema=tools_schema)
by_rules = RefundAgent(facts_of=lookup).reply(order_id)
print(lookup(order_id), by_rules.answer, sep="\n")

# COMMAND ----------

# MAGIC %md The same by a model, if `model` says which; the rules answer in its place if it fails.

# COMMAND ----------

if model is not None:
    with ModelThread(lambda: model) as ask:
        by_model = RefundAgent(facts_of=lookup, ask=ask).reply(order_id)
    print(by_model.answer, by_model.note)
