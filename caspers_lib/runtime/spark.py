"""A local Spark: one JVM with a Spark Connect server and Delta Lake, loopback only.

Traps and measurements behind the settings: docs/decisions/local-spark.md.
"""

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from caspers_lib.errors import EngineError
from caspers_lib.runtime.java import Java, find_java

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = [
    "DELTA_PACKAGE",
    "FEW_ROWS",
    "answers",
    "plan_for_few_rows",
    "session_config",
    "start_session",
    "stop_session",
]

FEW_ROWS = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
}
"""On a few thousand rows compiling code and planning a query anew at each stage cost more than they
save."""

DELTA_PACKAGE = "io.delta:delta-spark_4.2_2.13:4.4.0"
_MASTER = "local[*]"
_ROCKSDB = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"

# What Delta's dependencies share with Spark's own jars/ folder: not fetched, not shadowed.
_SHIPPED_WITH_SPARK = (
    "com.fasterxml.jackson.core:*",
    "com.fasterxml.jackson.datatype:*",
    "com.github.luben:zstd-jni",
    "com.google.code.findbugs:jsr305",
    "commons-logging:commons-logging",
    "commons-pool:commons-pool",
    "io.airlift:aircompressor",
    "javax.annotation:javax.annotation-api",
    "org.apache.hadoop:*",
    "org.apache.logging.log4j:*",
    "org.apache.parquet:*",
    "org.locationtech.jts:*",
    "org.roaringbitmap:*",
    "org.slf4j:*",
    "org.xerial.snappy:*",
)


def session_config(
    warehouse: Path, *, port: int, java_options: tuple[str, ...] = ()
) -> dict[str, str]:
    """Spark settings of a local session.

    Args:
        warehouse: folder of the Delta tables, one folder per schema.
        port: loopback port of the Spark Connect server.
        java_options: options of the Java runtime in use.
    """
    return {
        "spark.jars.packages": DELTA_PACKAGE,
        "spark.jars.excludes": ",".join(_SHIPPED_WITH_SPARK),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.sources.default": "delta",
        "spark.sql.warehouse.dir": str(warehouse),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.driver.memory": "2g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        # On a busy machine a Python worker connects, and an executor answers, long after the
        # defaults of 15 and 120 s. The 10 s in which foreachBatch workers start are fixed.
        "spark.python.authenticate.socketTimeout": "300s",
        "spark.network.timeout": "600s",
        "spark.driver.extraJavaOptions": " ".join(
            map(
                _quoted_option,
                (
                    "-Duser.timezone=UTC",
                    "-XX:+UseSerialGC",
                    # Planning makes much that dies young; a small nursery copies it over and over.
                    "-Xmn768m",
                    "-XX:ReservedCodeCacheSize=256m",
                    *java_options,
                ),
            )
        ),
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # Defaults of 200 and 50 are for clusters; on two cores they cost seconds a query.
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "2",
        # In 4.2.0 a Python UDF over a vectorised parquet scan hangs for ever without this.
        "spark.sql.execution.arrow.pythonUDF.columnarInput.enabled": "false",
        # A flow that failed is reported at once; the next update is the retry.
        "spark.sql.pipelines.maxFlowRetryAttempts": "0",
        "spark.sql.pipelines.execution.streamstate.pollingInterval": "0",
        "spark.sql.streaming.pollingDelay": "10ms",
        # Ids that silver remembers: on disk, and only what changed is written.
        "spark.sql.streaming.stateStore.providerClass": _ROCKSDB,
        "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
        # A second, empty batch would only evict state; the next batch with rows does that too.
        "spark.sql.streaming.noDataMicroBatches.enabled": "false",
    }


def start_session(
    warehouse: Path, *, log: Path, work: Path, config: Mapping[str, str] | None = None
) -> "SparkSession":
    """Start the JVM and return its Spark Connect session.

    Args:
        warehouse: folder of the Delta tables.
        log: file that receives what the JVM prints.
        work: folder for scratch files (the Java wrapper, Spark's local files).
        config: Spark settings that replace or add to `session_config`.

    Returns:
        a `pyspark.sql.connect.session.SparkSession`.

    Raises:
        JavaError: no fitting Java.
        EngineError: Delta's JARs can't be fetched, or the JVM doesn't start.
    """
    java = find_java(work)
    port = _free_port()
    scratch = work / "spark"
    options = (*java.options, f"-Djava.io.tmpdir={scratch}")
    settings = session_config(warehouse, port=port, java_options=options)
    settings["spark.local.dir"] = str(scratch)
    settings.update(config or {})
    _prepare_environment(java, work)
    log.parent.mkdir(parents=True, exist_ok=True)
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql.connect.client.retries import DefaultPolicy
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    _keep_query_errors_off_the_terminal()
    try:
        _launch_jvm(settings, log)
        ConnectSession._start_connect_server(_MASTER, settings)
        # By this name alone the client takes the token without asking for TLS.
        session = ConnectSession.builder.remote(f"sc://localhost:{port}").create()
        # A server on loopback that doesn't answer has died; the default waits ten minutes.
        session.client.set_retry_policies([DefaultPolicy(max_retries=6, max_backoff=5_000)])
        return cast("SparkSession", session)
    except (PySparkException, Py4JError, OSError) as error:
        _end_jvm()
        raise _start_error(log, error) from error


def plan_for_few_rows(spark: "SparkSession") -> None:
    """From now on run queries without generated code: an update of little that is new is quicker.

    Measured in docs/decisions/incremental-tables.md. A large batch still runs, at about half the
    speed.
    """
    for name, value in FEW_ROWS.items():
        spark.conf.set(name, value)


def answers(spark: "SparkSession") -> bool:
    """Whether the session's JVM runs and serves queries."""
    from pyspark import SparkContext
    from pyspark.errors import PySparkException

    gateway = SparkContext._gateway
    if gateway is None or gateway.proc.poll() is not None:
        return False
    try:
        return len(spark.sql("SELECT 1").collect()) == 1
    except PySparkException:
        return False


def stop_session(spark: "SparkSession") -> None:
    """Stop the session and its JVM, also where that has died; another session can start then."""
    from pyspark import SparkContext

    gateway = SparkContext._gateway
    if gateway is not None and gateway.proc.poll() is None:
        spark.stop()
    else:
        cast("Any", spark).client.close()
    _end_jvm()


def _end_jvm() -> None:
    """End the JVM, if there is one, and forget it: pyspark would go on using what is left of it."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession as ClassicSession

    gateway = SparkContext._gateway
    if gateway is not None:
        gateway.shutdown()
        gateway.proc.stdin.close()
        try:
            gateway.proc.wait(timeout=60)
        except subprocess.TimeoutExpired:
            gateway.proc.kill()
            gateway.proc.wait()
    SparkContext._gateway = SparkContext._jvm = SparkContext._active_spark_context = None
    ClassicSession._instantiatedSession = ClassicSession._activeSession = None


def _prepare_environment(java: Java, work: Path) -> None:
    """Environment that the JVM and its Python workers inherit."""
    (work / "spark").mkdir(parents=True, exist_ok=True)
    os.environ["JAVA_HOME"] = str(java.home)
    # foreachBatch workers start with this; the default `python3` is not the virtual environment's.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ["SPARK_LOCAL_REMOTE"] = "1"
    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
    os.environ["TZ"] = "UTC"
    # As root PostgreSQL is started under another user, for which Python forks: while other threads
    # are calling Spark, gRPC's fork handlers crash every eighth such child.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"


def _quoted_option(option: str) -> str:
    """A JVM option that Spark's launcher does not cut at spaces."""
    return '"' + option.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _launch_jvm(settings: Mapping[str, str], log: Path) -> None:
    """Launch the JVM that pyspark will use, with all that it prints in `log`.

    Left to itself, pyspark launches it with this process's own stdout and stderr.
    """
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway

    # The server reads it when it starts; a client on loopback sends the same one.
    os.environ.setdefault("SPARK_CONNECT_AUTHENTICATE_TOKEN", str(uuid.uuid4()))
    conf = SparkConf(loadDefaults=False)
    conf.setAll([("spark.master", _MASTER), *settings.items()])
    with log.open("wb") as output:
        streams = {"stdout": output, "stderr": subprocess.STDOUT}
        gateway = launch_gateway(conf, streams)  # type: ignore[no-untyped-call]
    SparkContext._gateway = gateway
    SparkContext._jvm = gateway.jvm


def _keep_query_errors_off_the_terminal() -> None:
    """pyspark prints each failed query as JSON with the JVM's trace; the exception has it too."""
    from pyspark.logger import PySparkLogger

    for name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        PySparkLogger.getLogger(name).disabled = True


def _start_error(log: Path, error: Exception) -> EngineError:
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    if "unresolved dependenc" in text or "UNRESOLVED DEPENDENCIES" in text:
        return EngineError(
            f"Delta's JARs ({DELTA_PACKAGE}) can't be fetched; the resolver's report is in {log}",
            hint="check the network or proxy; a pom without its JAR in ~/.m2 also causes this: "
            "delete ~/.m2/repository/io/delta",
        )
    last = next((line for line in reversed(text.splitlines()) if line.strip()), str(error))
    return EngineError(f"Spark doesn't start: {last.strip()[:300]}", hint=f"the JVM's log is {log}")
