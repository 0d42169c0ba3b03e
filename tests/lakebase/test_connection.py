"""The seam: what is waited for and what is not, passwords that rotate, and that none is told."""

import pickle
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from caspers_lib.errors import PostgresError
from caspers_lib.lakebase.connection import (
    MissingDatabaseError,
    Postgres,
    address,
    connect,
)
from tests.lakebase.stock_postgres import PASSWORD, StockPostgres

SECRET = "Tr0ub4dor"


@dataclass
class Clock:
    """Time that passes only while someone sleeps."""

    now: float = 0.0
    waits: list[float] = field(default_factory=list)
    on_sleep: Callable[[int], object] = lambda _: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds
        self.on_sleep(len(self.waits))


def _everything_said(error: BaseException | None) -> str:
    """What a log could show of an error, its causes and contexts included."""
    told = ""
    while error is not None:
        told += f"{error} {error!r} {getattr(error, 'hint', '')}"
        told += "".join(traceback.format_exception(error))
        error = error.__cause__ or error.__context__
    return told


REFUSING_SERVER = """
import socket, sys
refusal = bytes.fromhex(sys.argv[1])
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    while True:
        client, _ = listener.accept()
        with client:
            while len(packet := client.recv(4096)) == 8:  # asks for encryption
                client.sendall(b"N")
            if packet:
                client.sendall(refusal)
"""


@contextmanager
def refusing_server(code: str, message: str) -> Iterator[int]:
    """Speaks just enough of PostgreSQL's protocol to refuse everybody; gives its port.

    In a process of its own, since a ping stops our threads.
    """
    fields = f"SFATAL\0VFATAL\0C{code}\0M{message}\0\0".encode()
    refusal = b"E" + (len(fields) + 4).to_bytes(4, "big") + fields
    command = [sys.executable, "-c", REFUSING_SERVER, refusal.hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def test_how_to_reach_a_database_can_be_sent_to_another_process() -> None:
    there = Postgres("postgresql://a@b/c", password=str)
    assert pickle.loads(pickle.dumps(there)) == there  # noqa: S301


def test_a_string_with_a_nul_character_is_refused_rather_than_cut() -> None:
    with pytest.raises(PostgresError, match="can't be read"):
        connect("host=127.0.0.1 port=1 password=a\0b", patience=0)


def test_a_repr_holds_neither_string_nor_password() -> None:
    assert repr(Postgres(f"postgresql://u:{SECRET}@h/d", password=lambda: SECRET)) == "Postgres()"


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        (f"postgresql://u:{SECRET}@h:1/d", "h:1/d"),
        (f"host=h user=u password='{SECRET} x' dbname='a b'", "h/a b"),
        ("postgresql://u@/d?host=%2Ftmp%2Frun&port=5432", "/tmp/run:5432/d"),
    ],
)
def test_an_address_for_people_has_no_user_and_no_password(dsn: str, shown: str) -> None:
    assert address(dsn) == address(Postgres(dsn)) == shown


@pytest.mark.parametrize("text", ["postgresql://{0}", "host=127.0.0.1 port={1}"])
def test_a_refused_connection_is_tried_again_with_growing_waits_until_time_is_up(text: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    clock = Clock()
    dsn = text.format(f"127.0.0.1:{port}", port)
    with pytest.raises(PostgresError, match="Connection refused"):
        connect(dsn, patience=3.0, clock=clock, sleep=clock.sleep)
    assert clock.now == 3.0
    assert clock.waits[:5] == [0.05, 0.1, 0.2, 0.4, 0.5]


def test_a_missing_socket_is_waited_for(tmp_path: Path) -> None:
    clock = Clock()
    dsn = f"postgresql:///x?host={quote(str(tmp_path), safe='')}"
    with pytest.raises(PostgresError, match="No such file"):
        connect(dsn, patience=1.0, clock=clock, sleep=clock.sleep)
    assert clock.now == 1.0


def test_no_patience_is_one_attempt(tmp_path: Path) -> None:
    clock = Clock()
    with pytest.raises(PostgresError):
        connect(f"host='{tmp_path}'", patience=0, clock=clock, sleep=clock.sleep)
    assert clock.waits == []


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("57P03", "the database system is starting up"),
        ("57P03", "das Datenbanksystem startet"),
    ],
)
def test_a_server_that_starts_is_waited_for_in_any_language(code: str, message: str) -> None:
    clock = Clock()
    with (
        refusing_server(code, message) as port,
        pytest.raises(PostgresError, match=message),
    ):
        connect(f"host=127.0.0.1 port={port}", patience=1.0, clock=clock, sleep=clock.sleep)
    assert clock.now == 1.0


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("28P01", 'password authentication failed for user "u"'),
        ("53300", "sorry, too many clients already"),
        ("3D000", 'Datenbank "x" existiert nicht'),
    ],
)
def test_any_other_refusal_is_an_error_at_once(code: str, message: str) -> None:
    clock = Clock()
    with refusing_server(code, message) as port, pytest.raises(PostgresError, match=message):
        connect(f"host=127.0.0.1 port={port}", clock=clock, sleep=clock.sleep)
    assert clock.waits == []


def test_an_unknown_host_is_an_error_at_once() -> None:
    clock = Clock()
    with pytest.raises(PostgresError, match="resolve"):
        connect("host=nowhere.invalid", clock=clock, sleep=clock.sleep)
    assert clock.waits == []


def test_a_missing_database_is_told_from_a_missing_role(stock: StockPostgres) -> None:
    with pytest.raises(MissingDatabaseError, match='"nowhere"'):
        connect(stock.dsn("nowhere"))
    with refusing_server("28000", 'role "my database" does not exist') as port:
        with pytest.raises(PostgresError) as caught:
            connect(f"host=127.0.0.1 port={port}")
        assert not isinstance(caught.value, MissingDatabaseError)


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://u:x@{SECRET}@127.0.0.1:1/d",  # an @ that is not encoded
        f"postgresql://u:@{SECRET}:9@127.0.0.1:1/d",
        f"postgresql://u:x/{SECRET}@127.0.0.1:1/d",  # a slash
        f"postgresql://u:{SECRET}/x@127.0.0.1:1/d",
        f"postgresql://u:{SECRET}%zz@127.0.0.1:1/d",  # no percent-encoding
        f"postgresql://u:{SECRET}%00@127.0.0.1:1/d",
        f"postgresql://u:{SECRET}?@127.0.0.1:1/d",
        f"postgresql://u:{SECRET}[x@127.0.0.1:1/d",
        f"postgresql://127.0.0.1:1/d?password=x&{SECRET}",
        f"postgresql://127.0.0.1:1/d?password=x&{SECRET}=1",
        f"PostgreSQL://u:{SECRET}@127.0.0.1:1/d",
        f"host=127.0.0.1 port=1 password=my {SECRET}",
        f"host=127.0.0.1 port=1 password=my {SECRET}=1",
        f"host=127.0.0.1 port=1 password='it's {SECRET}'",
        f"host=127.0.0.1 port=1 password='{SECRET}",
        f"host=127.0.0.1 port=1 password={SECRET}\0",
        f"host=127.0.0.1 port=1 password={SECRET}\udcff",
        f"host=127.0.0.1 port=1 password={SECRET} user={SECRET}",
        f"host=/{SECRET} port=1 password={SECRET}",
        f"host=127.0.0.1 port={SECRET} password={SECRET}",
        f"host=127.0.0.1 port=1 password={SECRET} connect_timeout={SECRET}",
        f"host=127.0.0.1 port=1 sslpassword={SECRET} sslcert=/{SECRET} sslmode={SECRET}",
    ],
)
def test_no_error_tells_a_password(dsn: str) -> None:
    for database in (dsn, Postgres(dsn), Postgres(dsn, password=lambda: SECRET)):
        with pytest.raises(PostgresError) as caught:
            connect(database, patience=0)
        assert SECRET not in _everything_said(caught.value)
        assert len(caught.value.message.splitlines()) == 1


def test_what_the_driver_quotes_of_a_token_is_struck_out() -> None:
    with refusing_server("28000", f"no {SECRET} and no {quote('ä/' + SECRET)}") as port:
        for password in (SECRET, f"ä/{SECRET}"):
            there = Postgres(f"host=127.0.0.1 port={port} user=u", password=lambda p=password: p)
            with pytest.raises(PostgresError, match=r"no .*\*\*\*") as caught:
                connect(there)
            if password == SECRET:
                assert SECRET not in _everything_said(caught.value)


def test_a_wrong_password_of_a_real_server_is_not_told(stock: StockPostgres) -> None:
    with pytest.raises(PostgresError, match="password authentication failed") as caught:
        connect(stock.dsn("test", password="wrong " + PASSWORD))
    said = _everything_said(caught.value)
    assert PASSWORD not in said
    assert quote(PASSWORD, safe="") not in said


def test_a_difficult_password_works_in_every_form(stock: StockPostgres) -> None:
    quoted = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
    for database in (
        stock.dsn("test"),
        f"host=127.0.0.1 port={stock.port} user=kitchen dbname=test password='{quoted}'",
        Postgres(stock.dsn("test", password=None), password=lambda: PASSWORD),
        Postgres(stock.dsn("test", password="stale"), password=lambda: PASSWORD),
    ):
        with connect(database) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("kitchen",)


def test_each_connection_asks_for_the_password_anew(stock: StockPostgres) -> None:
    given = iter([PASSWORD, "old"])
    there = Postgres(stock.dsn("test", password=None), password=lambda: next(given))
    connect(there).close()
    with pytest.raises(PostgresError, match="authentication failed"):
        connect(there)
    assert next(given, None) is None


def test_what_the_connection_string_says_wins_over_our_defaults(stock: StockPostgres) -> None:
    for extra, name in (("", "caspers"), ("?application_name=mine", "mine")):
        with connect(stock.dsn("test") + extra) as connection:
            assert connection.execute("SHOW application_name").fetchone() == (name,)


def test_a_server_that_comes_back_while_one_waits_is_reached(stock: StockPostgres) -> None:
    stock.stop()
    clock = Clock(on_sleep=lambda number: stock.start() if number == 2 else None)
    with connect(stock.dsn("test"), clock=clock, sleep=clock.sleep) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert len(clock.waits) >= 2


def test_an_autocommit_connection_is_one(stock: StockPostgres) -> None:
    with connect(stock.dsn("test"), autocommit=True) as connection:
        assert connection.autocommit
    assert isinstance(connection, psycopg.Connection)
