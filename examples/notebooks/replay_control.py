# Databricks notebook source
# MAGIC %md
# MAGIC # Replay Control
# MAGIC Steers the replay. COMMAND is `status`, `pause`, `resume`, `speed` or `seek`; VALUE is the
# MAGIC speed (`120`), or the dataset day (`75`) or timestamp (`2024-03-16T12:30`) to go to.

# COMMAND ----------

"""The replay, steered like a tape."""

from caspers_lib.workspace import Workspace, replay_control, settings_from_widgets

settings = settings_from_widgets(dbutils)  # noqa: F821
dbutils.widgets.text("COMMAND", "status", "COMMAND")  # noqa: F821
dbutils.widgets.text("VALUE", "", "VALUE")  # noqa: F821
command, value = (dbutils.widgets.get(name).strip() for name in ("COMMAND", "VALUE"))  # noqa: F821

# COMMAND ----------

outcome = replay_control(Workspace.here(settings, spark), command, value)  # noqa: F821
display(outcome.frame(spark))  # noqa: F821
