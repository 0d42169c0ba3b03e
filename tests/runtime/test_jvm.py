"""What of a user's environment reaches the JVM and its Python workers, without a JVM."""

import os
import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.runtime.jvm import jvm_environment, last_words, process_environment

HOSTILE = {
    "BASH_ENV": "/nowhere/profile",
    "BASH_FUNC_ps%%": "() { exit 1; }",
    "CDPATH": "/",
    "CLASSPATH": "/nowhere/*",
    "ENV": "/nowhere/profile",
    "GRPC_DNS_RESOLVER": "ares",
    "GRPC_EXPERIMENTS": "no_such",
    "GRPC_POLL_STRATEGY": "no_such",
    "GRPC_TRACE": "all",
    "GRPC_VERBOSITY": "debug",
    "HADOOP_CONF_DIR": "/nowhere",
    "HADOOP_HOME": "/nowhere",
    "HADOOP_USER_NAME": "root",
    "HIVE_CONF_DIR": "/nowhere",
    "JAVA_OPTS": "-Xmx1m",
    "LANG": "tr_TR.UTF-8",
    "LANGUAGE": "tr",
    "LC_NUMERIC": "de_DE",
    "MASTER": "spark://nowhere:7077",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "no_such",
    "PYSPARK_GATEWAY_PORT": "1",
    "PYSPARK_GATEWAY_SECRET": "x",
    "PYSPARK_PIN_THREAD": "false",
    "PYSPARK_REMOTE_INIT_CONF_LEN": "9",
    "PYSPARK_SUBMIT_ARGS": "--class no.Such",
    "PYTHONHASHSEED": "random",
    "PYTHONINSPECT": "1",
    "PYTHONIOENCODING": "ascii",
    "PYTHONUTF8": "0",
    "PYTHONWARNINGS": "error",
    "SHELLOPTS": "noexec",
    "SPARK_CONF_DIR": "/nowhere",
    "SPARK_CONNECT_LOG_LEVEL": "no such level",
    "SPARK_CONNECT_USER_AGENT": "x" * 3_000,
    "SPARK_DAEMON_MEMORY": "1k",
    "SPARK_ENV_LOADED": "1",
    "SPARK_LOCAL_DIRS": "/nowhere",
    "SPARK_LOCAL_HOSTNAME": "nowhere",
    "SPARK_MASTER": "spark://nowhere:7077",
    "SPARK_PREPEND_CLASSES": "1",
    "SPARK_REMOTE": "sc://nowhere:15002",
    "SPARK_TESTING": "1",
    "SPARK_USER": "somebody",
    "YARN_CONF_DIR": "/nowhere",
    "_PYSPARK_DRIVER_CONN_INFO_PATH": "/nowhere",
}
"""Variables that Spark, Hadoop, Java, the shell or Python take as settings."""

OVERRULED = {
    "JAVA_HOME": "/nowhere",
    "LC_ALL": "tr_TR.UTF-8",
    "PYSPARK_DRIVER_PYTHON": "/nowhere/python",
    "PYSPARK_PYTHON": "/nowhere/python",
    "SPARK_CONNECT_AUTHENTICATE_TOKEN": "another",
    "SPARK_CONNECT_MODE": "1",
    "SPARK_HOME": "/nowhere",
    "SPARK_LOCAL_IP": "10.0.0.1",
    "TZ": "Asia/Tokyo",
}
"""Variables that the JVM gets with another value."""

HARMLESS = {"HOME": "/home/me", "PATH": "/bin", "PYTHONPATH": "/mine", "MY_KEY": "k", "USER": "me"}
PROXIES = {"http_proxy": "http://proxy:3128", "https_proxy": "proxy:3128"}


def built(environment: dict[str, str]) -> dict[str, str]:
    return jvm_environment(
        environment, java_home=Path("/jdk"), spark_home=Path("/spark"), token="secret"
    )


def java_options(environment: dict[str, str]) -> list[str]:
    return shlex.split(built(environment)["JAVA_TOOL_OPTIONS"])


@given(st.sets(st.sampled_from([*(HOSTILE | OVERRULED).items()])))
def test_no_setting_of_the_user_s_reaches_the_jvm(chosen: set[tuple[str, str]]) -> None:
    assert built(HARMLESS | dict(chosen)) == built(HARMLESS)


def test_the_jvm_gets_the_user_s_other_variables_and_our_settings() -> None:
    environment = built(HARMLESS)
    assert HARMLESS.items() <= environment.items()
    assert {name: environment[name] for name in OVERRULED} == {
        "JAVA_HOME": "/jdk",
        "LC_ALL": "C.UTF-8",
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_CONNECT_AUTHENTICATE_TOKEN": "secret",
        "SPARK_CONNECT_MODE": "0",
        "SPARK_HOME": "/spark",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "TZ": "UTC",
    }


@pytest.mark.parametrize("name", ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"])
def test_java_s_variables_say_only_how_to_reach_the_network_and_how_to_start(name: str) -> None:
    kept = ["-Dhttps.proxyHost=proxy", "-Djavax.net.ssl.trustStore=/a b", "-XX:TieredStopAtLevel=1"]
    dropped = ["-Xmx1m", "-javaagent:/nowhere.jar", "-Duser.timezone=Asia/Tokyo", "-XX:+NoSuch"]
    options = " ".join(map(shlex.quote, kept + dropped))
    assert java_options({name: options}) == kept
    assert java_options({name: "-Dx='"}) == java_options({})


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        ({}, []),
        (PROXIES, ["http.proxyHost=proxy", "http.proxyPort=3128", "https.proxyHost=proxy",
                   "https.proxyPort=3128"]),
        ({"ALL_PROXY": "http://proxy"}, ["http.proxyHost=proxy", "http.proxyPort=80",
                                         "https.proxyHost=proxy", "https.proxyPort=443"]),
        ({"https_proxy": "http://me:word@proxy:1"}, []),
        ({"https_proxy": "socks5://proxy:1"}, []),
        ({"https_proxy": "http://[nonsense"}, []),
        ({"https_proxy": "http://proxy:99999"}, []),
    ],
)  # fmt: skip
def test_jars_are_fetched_by_the_proxy_that_the_shell_names(
    environment: dict[str, str], options: list[str]
) -> None:
    *proxies, direct = java_options(environment)
    assert proxies == [f"-D{option}" for option in options]
    assert direct == "-Dhttp.nonProxyHosts=localhost|127.*|[::1]"


def test_the_shell_s_exceptions_from_the_proxy_are_java_s() -> None:
    options = java_options(PROXIES | {"NO_PROXY": ".corp.example, maven.example"})
    assert options[-1].endswith("[::1]|*.corp.example|maven.example")


@pytest.mark.parametrize("proxy", ["http_proxy", "https_proxy", "grpc_proxy", "all_proxy"])
@pytest.mark.parametrize("excepted", ["no_proxy", "NO_PROXY", "no_grpc_proxy", "other"])
def test_the_loopback_never_goes_by_a_proxy(proxy: str, excepted: str) -> None:
    environment = built({proxy: "http://proxy:3128", excepted: "maven.example"})
    assert environment[proxy] == "http://proxy:3128"
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        assert environment[name].startswith("localhost,127.0.0.1,::1")
    assert "maven.example" in environment[excepted]


def test_who_excepts_everything_from_the_proxy_still_does() -> None:
    assert built({"no_proxy": "*"})["no_proxy"] == "*"


def test_this_process_keeps_four_variables_and_has_the_others_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (HOSTILE | OVERRULED).items():
        monkeypatch.setenv(name, value)
    kept = {"SPARK_LOCAL_REMOTE": "1", "SPARK_CONNECT_MODE_ENABLED": "1", "TZ": "UTC"}
    kept["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    for name in kept:
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    with pytest.raises(ZeroDivisionError), process_environment(built(before)):
        assert dict(os.environ) == built(before)
        os.environ["PYSPARK_GATEWAY_PORT"] = "2"
        raise ZeroDivisionError
    assert dict(os.environ) == before | kept


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", ""),
        ("Picked up JAVA_TOOL_OPTIONS: -Xmx1m\n\n", ""),
        (
            "Unrecognized VM option 'NoSuch'\nError: Could not create the Java Virtual Machine.\n"
            "Error: A fatal exception has occurred. Program will exit.\n",
            "Unrecognized VM option 'NoSuch'",
        ),
        (
            "Error occurred during initialization of VM\nToo small maximum heap\n",
            "Too small maximum heap",
        ),
        (
            'Exception in thread "main" org.apache.spark.SparkException: no\n\tat a.B(C.scala:1)\n'
            "Caused by: java.net.BindException: Cannot assign requested address\n"
            "\tat java.base/sun.nio.ch.Net.bind0(Native Method)\n\t... 19 more\n",
            "java.net.BindException: Cannot assign requested address",
        ),
        (
            "# There is insufficient memory for the Java Runtime Environment to continue.\n"
            "# Native memory allocation (mmap) failed to map 1431 bytes.\n"
            "# An error report file with more information is saved as:\n# /tmp/hs_err_pid7.log\n",
            "# Native memory allocation (mmap) failed to map 1431 bytes.",
        ),
    ],
)
def test_a_jvm_s_last_words_name_the_cause(log: str, words: str) -> None:
    assert last_words(log) == words
