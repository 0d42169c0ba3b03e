import json
import logging
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pyspark
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from caspers_lib.runtime import python_worker
from caspers_lib.runtime.java import JAVA_OPTIONS
from caspers_lib.runtime.spark import DELTA_PACKAGE, _worker_python, session_config
from tests.runtime.test_jvm import HOSTILE, OVERRULED

START = """
import json, sys
from pathlib import Path
from caspers_lib.errors import EngineError
from caspers_lib.runtime.spark import start_session
root, config = Path(sys.argv[1]), json.loads(sys.argv[2])
try:
    start_session(
        root / "warehouse",
        log=root / "spark.log",
        work=root / "work",
        config=config,
        timeout_s=float(sys.argv[3]),
    )
except EngineError as error:
    print(json.dumps([error.message, error.hint, type(error.__cause__).__name__]))
"""

HOSTILE_START = """
import json, os, sys
from pathlib import Path
from caspers_lib.runtime.spark import start_session, stop_session
root, before = Path(sys.argv[1]), dict(os.environ)
work = root / "Arbeit \u00fc"
spark = start_session(work / "warehouse", log=work / "spark.log", work=work)
spark.range(3).write.saveAsTable("default.numbers")
def copied(batch, number):
    os.environ["MY_KEY"]
    batch.selectExpr("id", f"'{os.environ['TZ']}' AS zone").write.saveAsTable("default.copied")
stream = spark.readStream.table("default.numbers").writeStream.foreachBatch(copied)
stream = stream.option("checkpointLocation", str(work / "checkpoint"))
stream.trigger(availableNow=True).start().awaitTermination()
written = spark.table("default.copied").selectExpr("id", "zone", "upper('i')").orderBy("id")
rows = [list(row) for row in written.collect()]
stop_session(spark)
kept = {"TZ": "UTC", "GRPC_ENABLE_FORK_SUPPORT": "0"}
print(json.dumps([rows, dict(os.environ) == before | kept]))
"""


def test_the_server_listens_on_loopback_alone_and_time_is_utc(tmp_path: Path) -> None:
    config = session_config(tmp_path, port=1234, java_options=("-Da=b c",))
    assert config["spark.connect.grpc.binding.address"] == "127.0.0.1"
    assert config["spark.connect.grpc.binding.port"] == "1234"
    assert config["spark.driver.bindAddress"] == "127.0.0.1"
    assert config["spark.ui.enabled"] == "false"
    assert config["spark.sql.session.timeZone"] == "UTC"
    options = shlex.split(config["spark.driver.extraJavaOptions"])
    assert "-Duser.timezone=UTC" in options
    assert "-Da=b c" in options


def test_a_worker_imports_compiled_modules_and_not_sparks_zip(tmp_path: Path) -> None:
    work = tmp_path / "a 'work' é"
    work.mkdir()
    program = _worker_python(work)
    zipped = Path(pyspark.__file__).parent / "python" / "lib" / "pyspark.zip"
    assert zipped.is_file()
    ran = subprocess.run(
        [str(program), "-c", "import pyspark; print(pyspark.__file__)"],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": str(zipped)},
    )  # fmt: skip
    assert ran.stdout.strip() == pyspark.__file__


@pytest.mark.parametrize("over", ["tcp", "socket file"])
def test_a_worker_connects_and_shows_its_secret_before_it_imports_pyspark(
    over: str, tmp_path: Path
) -> None:
    (tmp_path / "pyspark").mkdir()
    slow = "import time\ntime.sleep(3600)\n"
    (tmp_path / "pyspark" / "__init__.py").write_text(slow, encoding="utf-8")
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_INET if over == "tcp" else socket.AF_UNIX) as server:
        server.bind(("127.0.0.1", 0) if over == "tcp" else path)
        server.listen()
        server.settimeout(300)
        factory = (
            {"PORT": str(server.getsockname()[1]), "SECRET": "é 1"}
            if over == "tcp"
            else {"SOCK_PATH": path}
        )
        worker = subprocess.Popen(
            [sys.executable, "-P", python_worker.__file__, "-m", "pyspark.some_worker"],
            env={f"PYTHON_WORKER_FACTORY_{k}": v for k, v in factory.items()}
            | {"PYTHONPATH": str(tmp_path)},
        )
        try:
            connection, _ = server.accept()
            with connection:
                if over == "tcp":
                    assert connection.recv(8, socket.MSG_WAITALL) == b"\0\0\0\4\xc3\xa9 1"
        finally:
            worker.kill()
            worker.wait()


@pytest.mark.spark
def test_no_port_of_the_running_jvm_is_open_to_the_network(spark: Any) -> None:
    jvms = [p for p in psutil.Process().children(recursive=True) if "java" in p.name()]
    listening = {
        connection.laddr.ip
        for jvm in jvms
        for connection in jvm.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert spark.range(1).count() == 1
    assert listening
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


@pytest.mark.spark
def test_a_session_is_a_connect_session_in_utc_whose_tables_are_delta(spark: Any) -> None:
    assert type(spark).__module__ == "pyspark.sql.connect.session"
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    midnight = spark.sql("SELECT unix_seconds(TIMESTAMP '1970-01-02 00:00:00')").first()[0]
    assert midnight == 86_400
    spark.range(2).write.saveAsTable("default.of_default_format")
    try:
        detail = spark.sql("DESCRIBE DETAIL default.of_default_format").first()
        assert detail["format"] == "delta"
    finally:
        spark.sql("DROP TABLE default.of_default_format")


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.mark.spark
def test_an_error_of_a_query_is_raised_and_not_also_logged_on_the_terminal(spark: Any) -> None:
    handler = Records()
    loggers = [logging.getLogger(f"{kind}QueryContextLogger") for kind in ("DataFrame", "SQL")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        with pytest.raises(PySparkException, match="DIVIDE_BY_ZERO"):
            spark.range(1).select(F.lit(1) / F.col("id")).collect()
        with pytest.raises(PySparkException, match="DIVIDE_BY_ZERO"):
            spark.sql("SELECT 1 / id FROM range(1)").collect()
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    assert handler.records == []


def elsewhere(script: str, *arguments: object, environment: dict[str, str]) -> Any:
    """What a script prints as JSON in another process."""
    ran = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=240, env=environment,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ran.stderr == ""
    return json.loads(ran.stdout)


def without_spark() -> dict[str, str]:
    """This process's environment less what the tests' own Spark has put there."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("SPARK", "PYSPARK"))}


def start_elsewhere(folder: Path, *, timeout_s: float = 600, **config: str) -> list[str]:
    """Message, hint and kind of cause of the error that a start in another process gives."""
    answer: list[str] = elsewhere(
        START, folder, json.dumps(config), timeout_s, environment=without_spark()
    )
    return answer


@pytest.mark.spark
def test_spark_starts_and_streams_in_an_environment_that_is_hostile_to_it(tmp_path: Path) -> None:
    # What would keep this process itself from running, or is refused by name.
    ours = ("PYTHON", "JAVA_HOME")
    hostile = {k: v for k, v in (HOSTILE | OVERRULED).items() if not k.startswith(ours)}
    nowhere = "http://127.0.0.1:9"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"), nowhere)
    options = dict.fromkeys(
        JAVA_OPTIONS, "-XX:+NoSuch -Duser.timezone=Asia/Tokyo -XX:TieredStopAtLevel=1"
    )
    rows, is_restored = elsewhere(
        HOSTILE_START,
        tmp_path,
        environment={**without_spark(), **hostile, **proxies, **options, "MY_KEY": "k"},
    )
    assert rows == [[number, "UTC", "I"] for number in range(3)]
    assert is_restored


def test_a_start_that_takes_too_long_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = tmp_path / "jdk" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(
        "#!/bin/sh\n[ $1 = -version ] && exec echo 'openjdk version \"21\"'\nexec sleep 20\n"
    )
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(java.parent.parent))
    message, hint, cause = start_elsewhere(tmp_path, timeout_s=3)
    assert message == "Spark doesn't start: it isn't ready within 3 s; the JVM isn't ready"
    assert str(tmp_path / "spark.log") in hint
    assert cause == "TimeoutError"


@pytest.mark.spark
def test_jars_that_nobody_sends_are_an_error_as_well(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        root = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        settings = tmp_path / "ivysettings.xml"
        settings.write_text(
            '<ivysettings><settings defaultResolver="silent"/><resolvers>'
            f'<ibiblio name="silent" m2compatible="true" root="{root}"/></resolvers></ivysettings>'
        )
        config = {
            "spark.jars.packages": "no.such:thing:1",
            "spark.jars.ivySettings": str(settings),
            "spark.jars.ivy": str(tmp_path / "ivy"),
        }
        message, _, cause = start_elsewhere(tmp_path, timeout_s=12, **config)
    assert message.startswith(f"Delta's JARs ({DELTA_PACKAGE}) can't be fetched")
    assert cause == "TimeoutError"


@pytest.mark.spark
def test_jars_that_cannot_be_fetched_are_an_error_with_a_hint(tmp_path: Path) -> None:
    # A resolver over an empty folder: nothing is asked of the network.
    settings = tmp_path / "ivysettings.xml"
    settings.write_text(
        '<ivysettings><settings defaultResolver="none"/><resolvers><filesystem name="none">'
        f'<artifact pattern="{tmp_path}/jars/[artifact]-[revision].[ext]"/>'
        "</filesystem></resolvers></ivysettings>"
    )
    config = {
        "spark.jars.packages": "no.such:thing:1",
        "spark.jars.ivySettings": str(settings),
        "spark.jars.ivy": str(tmp_path / "ivy"),
    }
    message, hint, cause = start_elsewhere(tmp_path, **config)
    assert message.startswith(f"Delta's JARs ({DELTA_PACKAGE}) can't be fetched")
    assert str(tmp_path / "spark.log") in message
    assert "~/.m2" in hint
    assert "no.such#thing;1" in (tmp_path / "spark.log").read_text()
    assert cause == "ChildProcessError"


@pytest.mark.spark
def test_a_jvm_that_does_not_start_is_an_error_with_its_last_words_and_its_log(
    tmp_path: Path,
) -> None:
    message, hint, cause = start_elsewhere(tmp_path, **{"spark.driver.memory": "1k"})
    assert message == "Spark doesn't start: Too small maximum heap"
    assert str(tmp_path / "spark.log") in hint
    assert cause == "ChildProcessError"
