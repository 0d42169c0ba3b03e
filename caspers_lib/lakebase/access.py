"""How a database is reached: its connection string, and a password that may rotate.

Loads no driver: these are values that definitions hold.

No message, and no error that one came from, holds a password: what can't be parsed is not quoted,
and what the driver says is searched for the passwords that it was given.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import quote

from caspers_lib.errors import PostgresError

__all__ = ["Database", "Postgres", "address", "connection_parameters", "without_passwords"]

_SECRETS = ("password", "sslpassword")
# A shorter one is found in any sentence; to strike it out would give it away.
_SHORTEST_SECRET = 4


@dataclass(frozen=True, slots=True)
class Postgres:
    """How to reach a database; it can be sent to another process if its `password` can.

    Args:
        dsn: libpq connection string or URI; `log_in_parameters` says what it may leave out.
        password: gives the password, anew for each connection; for one that rotates.
    """

    dsn: str = field(repr=False)
    password: Callable[[], str] | None = field(default=None, repr=False)


Database: TypeAlias = str | Postgres
"""How to reach a database: a connection string, or one with a password that rotates."""


def connection_parameters(dsn: str) -> dict[str, Any]:
    """The parameters of a connection string.

    Args:
        dsn: libpq connection string or URI.

    Raises:
        PostgresError: it can't be read, or does not name the server; the message does not quote it.
    """
    if _is_ambiguous(dsn):
        raise PostgresError(
            "The connection URI has an @ where none belongs, as of a password written as it is.",
            hint="Write @ as %40, / as %2F and % as %25 in a URI's password.",
        )
    parameters = _parsed(dsn)
    if parameters is None:
        raise PostgresError(
            "The connection string of PostgreSQL can't be read.",
            hint="Quote a value with spaces: password='...'; in a URI write % as %25.",
        )
    if "service" in parameters or not (parameters.get("host") or parameters.get("hostaddr")):
        raise PostgresError(
            "The connection string of PostgreSQL must name the server by host or hostaddr.",
            hint="A service, PGSERVICE, PGHOST and PGHOSTADDR are not used; a socket's host is its "
            "folder, such as host=/var/run/postgresql.",
        )
    return parameters


def address(database: Database) -> str:
    """Where a database is, for people: host, port and name, without user and password.

    Args:
        database: how to reach it.

    Raises:
        PostgresError: the connection string can't be read.
    """
    dsn = database.dsn if isinstance(database, Postgres) else database
    parameters = connection_parameters(dsn)
    host = parameters.get("host") or parameters.get("hostaddr")
    port, name = parameters.get("port"), parameters.get("dbname", "")
    return f"{host}:{port}/{name}" if port else f"{host}/{name}"


def without_passwords(text: str, parameters: Mapping[str, Any]) -> str:
    """A text in which the passwords of a connection are struck out.

    Args:
        text: what the driver says.
        parameters: the connection's parameters.
    """
    for name in _SECRETS:
        secret = str(parameters.get(name) or "")
        if len(secret) >= _SHORTEST_SECRET:
            for form in (secret, quote(secret, safe=""), quote(secret)):
                text = text.replace(form, "***")
    return text


def _is_ambiguous(dsn: str) -> bool:
    """Whether libpq would take a part of a URI's password for host, port or database."""
    scheme, separator, rest = dsn.partition("://")
    if not separator or scheme not in {"postgresql", "postgres"}:
        return False
    login, _, path = rest.partition("?")[0].partition("/")
    return login.count("@") > 1 or "@" in path


def _parsed(dsn: str) -> dict[str, Any] | None:
    """None where it can't be parsed: the parser's own error would quote the string."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    if "\0" in dsn:
        return None
    try:
        return dict(conninfo_to_dict(dsn))
    except (psycopg.Error, UnicodeError):
        return None
