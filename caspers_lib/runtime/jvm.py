"""The JVM of a local Spark: the environment it gets, how it is launched, and why it ended.

The user's environment reaches neither the JVM nor its Python workers where it could send data
elsewhere or change a result: docs/invariants.md names the variables.
"""

import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from caspers_lib.runtime.java import JAVA_OPTIONS

if TYPE_CHECKING:
    from py4j.java_gateway import JavaGateway

__all__ = ["jvm_environment", "last_words", "launch_jvm", "process_environment"]

_PREFIXES = ("SPARK_", "PYSPARK_", "_PYSPARK_", "HADOOP_", "HDFS_", "YARN_", "HIVE_", "LC_")
_SHELL = ("BASH_ENV", "BASHOPTS", "CDPATH", "ENV", "GLOBIGNORE", "POSIXLY_CORRECT", "SHELLOPTS")
_PYTHON = (
    "PYTHONHASHSEED",
    "PYTHONINSPECT",
    "PYTHONIOENCODING",
    "PYTHONSTARTUP",
    "PYTHONUTF8",
    "PYTHONWARNINGS",
)
_GRPC = (
    "GRPC_DNS_RESOLVER",
    "GRPC_EXPERIMENTS",
    "GRPC_POLL_STRATEGY",
    "GRPC_TRACE",
    "GRPC_VERBOSITY",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION",
)
_DROPPED = {"CLASSPATH", "JAVA_OPTS", "LANG", "LANGUAGE", "MASTER", *_SHELL, *_PYTHON, *_GRPC}

# Of the options in JAVA_TOOL_OPTIONS and its like: how to get out to the network, and how fast to
# start; neither can change a result.
_KEPT_OPTION = re.compile(
    r"-D(?:https?\.(?:proxyHost|proxyPort|nonProxyHosts)|socksProxy(?:Host|Port)"
    r"|javax\.net\.ssl\.trustStore\w*|java\.net\.(?:useSystemProxies|preferIPv[46]\w+))=.*"
    r"|-XX:TieredStopAtLevel=[0-4]|-XX:ActiveProcessorCount=[1-9][0-9]*",
    re.DOTALL,
)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PORTS = {"http": 80, "https": 443}

_SHARED = ("GRPC_ENABLE_FORK_SUPPORT", "SPARK_CONNECT_MODE_ENABLED", "SPARK_LOCAL_REMOTE", "TZ")
"""Variables that stay in this process: pyspark and gRPC ask them later."""

_NOISE = re.compile(
    r"\s*$|\s*at [\w.$/]+\(|\s*\.\.\. \d+ more|Picked up |WARNING: |Using Spark's default log4j"
    r"|Error: Could not create the Java|Error: A fatal exception has occurred"
    r"|Error occurred during initialization of|# An error report file|# /|#\s*$"
)


def jvm_environment(
    environment: Mapping[str, str], *, java_home: Path, spark_home: Path, token: str
) -> dict[str, str]:
    """The environment of the JVM and its Python workers.

    Args:
        environment: the user's.
        java_home: folder of the Java runtime.
        spark_home: folder of the pyspark package.
        token: what a client has to show to the Spark Connect server.

    Returns:
        The user's variables less those that Spark, Hadoop, Java, the shell and Python take as
        settings; time in UTC, text in UTF-8, and no proxy for the loopback.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if not (name.startswith((*_PREFIXES, "BASH_FUNC_")) or name in _DROPPED)
        and name not in JAVA_OPTIONS
    }
    no_proxy = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if no_proxy.strip() != "*":
        no_proxy = ",".join([*_LOOPBACK, *filter(None, [no_proxy])])
    options = _network_options(environment)
    return kept | {
        # As root PostgreSQL is started under another user, for which Python forks: while other
        # threads are calling Spark, gRPC's fork handlers crash every eighth such child.
        "GRPC_ENABLE_FORK_SUPPORT": "0",
        "JAVA_HOME": str(java_home),
        "JAVA_TOOL_OPTIONS": " ".join(map(shlex.quote, options)),
        "LC_ALL": "C.UTF-8",
        # Python workers reach their server by gRPC, which asks this variable first.
        "no_grpc_proxy": ",".join([*_LOOPBACK, *filter(None, [environment.get("no_grpc_proxy")])]),
        "no_proxy": no_proxy,
        "NO_PROXY": no_proxy,
        # A worker of foreachBatch starts with this; `python3` may be another interpreter.
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "SPARK_CONNECT_AUTHENTICATE_TOKEN": token,
        "SPARK_CONNECT_MODE": "0",
        "SPARK_CONNECT_MODE_ENABLED": "1",
        "SPARK_HOME": str(spark_home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_REMOTE": "1",
        "TZ": "UTC",
    }


def _network_options(environment: Mapping[str, str]) -> list[str]:
    """Options by which the JVM gets out, as Java's variables and those of other programs say."""
    given = [
        option
        for name in JAVA_OPTIONS
        for option in _words(environment.get(name, ""))
        if _KEPT_OPTION.fullmatch(option)
    ]
    if any("proxyHost" in option for option in given):
        return given
    for scheme, port in _PORTS.items():
        proxy = _proxy(environment, scheme)
        if proxy and proxy.hostname:
            given += [
                f"-D{scheme}.proxyHost={proxy.hostname}",
                f"-D{scheme}.proxyPort={proxy.port or port}",
            ]
    excluded = (environment.get("no_proxy") or environment.get("NO_PROXY") or "").split(",")
    hosts = [host.strip() for host in excluded if host.strip()]
    hosts = [f"*{host}" if host.startswith(".") else host for host in hosts]
    return [*given, f"-Dhttp.nonProxyHosts={'|'.join(['localhost', '127.*', '[::1]', *hosts])}"]


def _words(options: str) -> list[str]:
    try:
        return shlex.split(options)
    except ValueError:
        return []


def _proxy(environment: Mapping[str, str], scheme: str) -> SplitResult | None:
    """The proxy for a scheme; none with a password, which would stand in the log."""
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
    address = next((environment[name] for name in names if environment.get(name)), "")
    try:
        proxy = urlsplit(address if "://" in address else f"http://{address}")
        usable = proxy.scheme in _PORTS and proxy.password is None and proxy.port != 0
    except ValueError:
        return None
    return proxy if usable else None


@contextmanager
def process_environment(environment: Mapping[str, str]) -> Iterator[None]:
    """This process's environment while Spark starts; afterwards four variables stay.

    Args:
        environment: what pyspark finds in the block.
    """
    before = dict(os.environ)
    _replace_environment(environment)
    try:
        yield
    finally:
        shared = {name: environment[name] for name in _SHARED}
        _replace_environment(before | shared)


def _replace_environment(environment: Mapping[str, str]) -> None:
    # Other threads may read it, so what is the same is not touched.
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def launch_jvm(settings: Mapping[str, str], log: Path, *, deadline: float) -> "JavaGateway":
    """Launch the JVM that pyspark will use, with all that it prints in a log.

    Left to itself, pyspark waits without an end and prints to this process's own stdout. Call it
    where `process_environment` holds.

    Args:
        settings: Spark's settings.
        log: file that receives what the JVM prints.
        deadline: when it must be ready, by `time.monotonic`; fetching JARs comes before that.

    Returns:
        py4j's gateway to it.

    Raises:
        TimeoutError: the JVM isn't ready in time.
        ChildProcessError: it ended.
    """
    from pyspark.java_gateway import launch_gateway

    command = [str(Path(os.environ["SPARK_HOME"]) / "bin" / "spark-submit")]
    command += [word for name in settings for word in ("--conf", f"{name}={settings[name]}")]
    with tempfile.TemporaryDirectory() as folder, log.open("wb") as output:
        ready = Path(folder) / "gateway"
        process = subprocess.Popen(
            [*command, "pyspark-shell"],
            stdin=subprocess.PIPE,  # it ends with this pipe
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "_PYSPARK_DRIVER_CONN_INFO_PATH": str(ready)},
            # Ctrl-C is for this process, which stops the JVM in its turn.
            preexec_fn=_ignore_interrupts,  # noqa: PLW1509 - pyspark does the same
        )
        while not ready.is_file():
            if process.poll() is not None:
                raise ChildProcessError(f"the JVM ended with code {process.returncode}")
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise TimeoutError("the JVM isn't ready")
            time.sleep(0.05)
        information = ready.read_bytes()
    port, length = struct.unpack(">ii", information[:8])
    # Told where a JVM listens, pyspark launches none.
    os.environ["PYSPARK_GATEWAY_PORT"] = str(port)
    os.environ["PYSPARK_GATEWAY_SECRET"] = information[8 : 8 + length].decode()
    gateway: JavaGateway = launch_gateway()  # type: ignore[no-untyped-call]
    gateway.proc = process
    return gateway


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def last_words(log: str) -> str:
    """Why a JVM ended, by its log: the innermost cause, or the last line that says something.

    Args:
        log: what the JVM printed.
    """
    lines = [line.strip() for line in log.splitlines() if not _NOISE.match(line)]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (causes or lines or [""])[-1][:300]
