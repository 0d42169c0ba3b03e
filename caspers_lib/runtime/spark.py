"""A local Spark: one JVM with a Spark Connect server and Delta Lake, loopback only.

Traps and measurements behind the settings: docs/decisions/local-spark.md.
"""

import os
import shlex
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from caspers_lib.errors import EngineError, first_cause
from caspers_lib.runtime import python_worker
from caspers_lib.runtime.java import find_java
from caspers_lib.runtime.jvm import jvm_environment, last_words, launch_jvm, process_environment

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = [
    "DELTA_PACKAGE",
    "FEW_ROWS",
    "START_TIMEOUT_S",
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
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
}
"""On a few thousand rows compiling code, planning a query anew at each stage and a second partition
cost more than they save."""

DELTA_PACKAGE = "io.delta:delta-spark_4.2_2.13:4.4.0"
START_TIMEOUT_S = 600.0
"""Spark has started within so many seconds, Delta's JARs fetched, or doesn't start."""

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
        # defaults of 15 and 120 s. The 10 s in which foreachBatch workers connect are fixed, see
        # `python_worker`.
        "spark.python.authenticate.socketTimeout": "300s",
        "spark.network.timeout": "600s",
        "spark.driver.extraJavaOptions": " ".join(
            map(
                _quoted_option,
                (
                    "-Duser.timezone=UTC",
                    "-Duser.language=en",
                    "-Duser.country=US",
                    "-Dfile.encoding=UTF-8",
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
    warehouse: Path,
    *,
    log: Path,
    work: Path,
    config: Mapping[str, str] | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> "SparkSession":
    """Start the JVM and return its Spark Connect session.

    This process keeps four variables that pyspark and gRPC ask for later: TZ, SPARK_LOCAL_REMOTE,
    SPARK_CONNECT_MODE_ENABLED and GRPC_ENABLE_FORK_SUPPORT. The others are as before.

    Args:
        warehouse: folder of the Delta tables.
        log: file that receives what the JVM prints.
        work: folder for scratch files (the Java wrapper, Spark's local files).
        config: Spark settings that replace or add to `session_config`.
        timeout_s: seconds in which it must have started.

    Returns:
        a `pyspark.sql.connect.session.SparkSession`.

    Raises:
        JavaError: no fitting Java.
        EngineError: Delta's JARs can't be fetched, or the JVM doesn't start, or not in time.
    """
    import pyspark
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    java = find_java(work)
    port = _free_port()
    scratch = work / "spark"
    scratch.mkdir(parents=True, exist_ok=True)
    options = (*java.options, f"-Djava.io.tmpdir={scratch}")
    settings = session_config(warehouse, port=port, java_options=options)
    settings["spark.local.dir"] = str(scratch)
    settings.update(config or {})
    log.parent.mkdir(parents=True, exist_ok=True)
    token = str(uuid.uuid4())
    environment = jvm_environment(
        os.environ, java_home=java.home, spark_home=Path(pyspark.__file__).parent, token=token
    ) | {"PYSPARK_PYTHON": str(_worker_python(work))}
    _keep_query_errors_off_the_terminal()
    deadline = time.monotonic() + timeout_s
    try:
        with process_environment(environment):
            return _started(settings, log, port=port, token=token, deadline=deadline)
    except (PySparkException, Py4JError, OSError) as error:
        late = f"it isn't ready within {timeout_s:g} s; " if time.monotonic() > deadline else ""
        _end_jvm()
        raise _start_error(log, error, late) from error


def _started(
    settings: dict[str, str], log: Path, *, port: int, token: str, deadline: float
) -> "SparkSession":
    """The session of a JVM that is launched here and ended where it isn't ready in time."""
    import grpc
    from pyspark import SparkContext
    from pyspark.sql.connect.client import DefaultChannelBuilder
    from pyspark.sql.connect.client.retries import DefaultPolicy
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    gateway = launch_jvm(settings, log, deadline=deadline)
    SparkContext._gateway, SparkContext._jvm = gateway, gateway.jvm
    watchdog = threading.Timer(max(0.0, deadline - time.monotonic()), gateway.proc.kill)
    watchdog.start()
    try:
        ConnectSession._start_connect_server(_MASTER, settings)
        # By this name alone the client takes the token without asking for TLS. What the shell
        # names as a proxy, or as a user, is not for a server on the loopback.
        builder = DefaultChannelBuilder(
            f"sc://localhost:{port}", channelOptions=[("grpc.enable_http_proxy", 0)]
        )
        for name, value in (("token", token), ("user_id", "caspers"), ("user_agent", "caspers")):
            builder.set(name, value)
        with builder.toChannel() as channel:
            ready = grpc.channel_ready_future(channel)
            ready.result(timeout=max(0.0, deadline - time.monotonic()))
        session = ConnectSession.builder.channelBuilder(builder).create()
        # A server on loopback that doesn't answer has died; the default waits ten minutes.
        session.client.set_retry_policies([DefaultPolicy(max_retries=6, max_backoff=5_000)])
    except grpc.FutureTimeoutError as error:
        gateway.proc.kill()
        raise TimeoutError("the server of Spark Connect doesn't answer") from error
    finally:
        watchdog.cancel()
    return cast("SparkSession", session)


def plan_for_few_rows(spark: "SparkSession") -> None:
    """From now on run queries without generated code and in one partition, for little that is new.

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
        remote = os.environ.get("SPARK_REMOTE")
        spark.stop()
        if remote is not None:
            os.environ["SPARK_REMOTE"] = remote  # the user's, which pyspark takes for its own
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


def _worker_python(work: Path) -> Path:
    """Write the program that starts a Python worker with the modules of this process.

    Spark puts its `pyspark.zip` first, which holds no compiled code: the imports take 2.1 seconds
    of CPU instead of 0.8. A worker that has to connect within Spark's 10 seconds does so before it
    imports anything, see `python_worker`.
    """
    program = work / "python"
    modules = shlex.quote(os.pathsep.join(path for path in sys.path if path))
    python, first = shlex.quote(sys.executable), shlex.quote(python_worker.__file__)
    text = (
        "#!/bin/sh\n"
        f'export PYTHONPATH={modules}:"$PYTHONPATH"\n'
        'if [ -n "$PYTHON_WORKER_FACTORY_PORT$PYTHON_WORKER_FACTORY_SOCK_PATH" ]; then\n'
        f'  exec {python} -P {first} "$@"\n'
        "fi\n"
        f'exec {python} "$@"\n'
    )
    aside = program.with_suffix(".new")
    aside.write_text(text, encoding="utf-8", errors="surrogateescape")
    aside.chmod(0o755)
    aside.replace(program)
    return program


def _quoted_option(option: str) -> str:
    """A JVM option that Spark's launcher does not cut at spaces."""
    return '"' + option.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _keep_query_errors_off_the_terminal() -> None:
    """pyspark prints each failed query as JSON with the JVM's trace; the exception has it too."""
    from pyspark.logger import PySparkLogger

    for name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        PySparkLogger.getLogger(name).disabled = True


def _start_error(log: Path, error: Exception, late: str) -> EngineError:
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    was_resolving = ":: resolving dependencies" in text and ":: resolution report" not in text
    if "unresolved dependenc" in text.lower() or (late and was_resolving):
        return EngineError(
            f"Delta's JARs ({DELTA_PACKAGE}) can't be fetched; the resolver's report is in {log}",
            hint="check the network or proxy; a pom without its JAR in ~/.m2 also causes this: "
            "delete ~/.m2/repository/io/delta",
        )
    words = late + (last_words(text) or first_cause(error))
    return EngineError(f"Spark doesn't start: {words}", hint=f"the JVM's log is {log}")
