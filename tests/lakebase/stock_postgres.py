"""A PostgreSQL server of the system's packages, as they are met elsewhere: TCP, TLS, scram."""

import datetime
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from psycopg import sql

from caspers_lib.lakebase.connection import connect
from caspers_lib.lakebase.server_user import server_user

ROLE = "kitchen"
PASSWORD = "p@ss 'w\"ord\\ 100% né/?#"
ADMIN_PASSWORD = "admin-secret"


def stock_programs() -> Path:
    """The folder of the newest PostgreSQL that the system's packages brought."""
    for folder in sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name)
    ):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    if found is None:
        pytest.fail("the tests against a stock server need it (apt-get install postgresql)")
    return Path(found).resolve().parent


class Authority:
    """A self-signed root that signs server certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.root = folder / f"{name}.crt"
        self.root.write_bytes(self._certificate(self.name, self.key, ca=True))

    def write_server_pair(self, certificate: Path, key: Path) -> None:
        """A certificate for 127.0.0.1 and its key."""
        own = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
        certificate.write_bytes(self._certificate(subject, own, ca=False))
        key.write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        key.chmod(0o600)

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class StockPostgres:
    """The server; its tables belong to an ordinary role, as in most places."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "stock"
        self.authority = Authority(folder, "right-root")
        self.stranger = Authority(folder, "other-root")
        self._log = folder / "stock.log"
        self._programs = stock_programs()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self._initialise(folder)

    def dsn(self, database: str, role: str = ROLE, password: str | None = PASSWORD) -> str:
        """Connection URI, with or without a password."""
        login = role if password is None else f"{role}:{quote(password, safe='')}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def start(self) -> None:
        options = ["listen_addresses=127.0.0.1", f"port={self.port}", "fsync=off", "ssl=on"]
        options += ["unix_socket_directories=", "password_encryption=scram-sha-256"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.data]
                + [part for option in options for part in ("-c", option)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_ENVIRONMENT,
                **self._options,
            )
        connect(self._admin_dsn, patience=60).close()

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(60)
        self._process = None

    def administer(self, statement: str, *names: str, **values: str) -> None:
        """Run a statement as the administrator: `{}` for names, `{key}` for values."""
        composed = sql.SQL(statement).format(  # type: ignore[arg-type]
            *(sql.Identifier(name) for name in names),
            **{key: sql.Literal(value) for key, value in values.items()},
        )
        with psycopg.connect(self._admin_dsn, autocommit=True) as connection:
            connection.execute(composed)

    @property
    def _admin_dsn(self) -> str:
        return self.dsn("postgres", "postgres", ADMIN_PASSWORD)

    @property
    def _options(self) -> dict[str, Any]:
        return server_user(self.data).options

    def _initialise(self, folder: Path) -> None:
        self.data.mkdir()
        secret = folder / "admin-password"
        secret.write_text(ADMIN_PASSWORD)
        server_user(self.data).own(self.data)
        server_user(self.data).own(secret)
        options = ["-U", "postgres", "-E", "UTF8", "-A", "scram-sha-256", "--locale=C", "--no-sync"]
        subprocess.run(
            [self._programs / "initdb", "-D", self.data, f"--pwfile={secret}", *options],
            check=True,
            capture_output=True,
            cwd="/",
            env=_ENVIRONMENT,
            **self._options,
        )
        pair = (self.data / "server.crt", self.data / "server.key")
        self.authority.write_server_pair(*pair)
        for path in pair:
            server_user(self.data).own(path)
        self.start()
        self.administer("CREATE ROLE {} LOGIN PASSWORD {password}", ROLE, password=PASSWORD)
        self.administer("CREATE DATABASE {} OWNER {}", "test", ROLE)


_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
