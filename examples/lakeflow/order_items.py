"""Source file of a pipeline: bronze, silver and gold from a folder of event files.

On Lakeflow set `caspers.events` in the pipeline's configuration; with open-source Spark see the two
spec files beside this one.
"""

from pyspark.sql import SparkSession

from caspers_lib.medallion import PipelineSettings, register_pipeline

spark = SparkSession.active()
register_pipeline(PipelineSettings.from_conf(spark), spark)
