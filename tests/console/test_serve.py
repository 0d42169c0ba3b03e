import socket
import threading

import httpx
import pytest

from caspers_lib.console.app import ConsoleParts, create_app
from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.serve import ConsoleServer
from caspers_lib.errors import ConsoleError


def server(port: int = 0, host: str = "127.0.0.1") -> ConsoleServer:
    nowhere = ConsoleDatabase("caspers", lambda: None)
    parts = ConsoleParts(refunds=nowhere, complaints=nowhere)
    return ConsoleServer(create_app(parts), host=host, port=port)


def test_it_answers_inside_its_block_and_not_after() -> None:
    with server() as running:
        assert httpx.get(f"{running.url}/healthz", trust_env=False).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{running.url}/healthz", trust_env=False)


def test_port_0_takes_a_free_port_and_the_url_names_it() -> None:
    with server() as one, server() as other:
        assert one.url.startswith("http://127.0.0.1:")
        assert not one.url.endswith(":0")
        assert one.url != other.url


def test_a_port_in_use_is_one_sentence_and_a_hint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConsoleError) as raised, server(port):
            pass
    assert raised.value.message == f"port {port} on 127.0.0.1 is in use by another program"
    assert raised.value.hint == "--port 0 picks a free one"
    assert isinstance(raised.value.__cause__, OSError)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(ConsoleError, match="allowed are 0 to 65535"), server(port):
        pass


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConsoleError, match=r"can't listen on 192\.0\.2\.1 port 0"):
        server(host="192.0.2.1").__enter__()


def test_a_port_is_free_again_at_once() -> None:
    with server() as running:
        httpx.get(f"{running.url}/", trust_env=False)
        port = int(running.url.rsplit(":", 1)[1])
    with server(port) as again:
        assert httpx.get(f"{again.url}/healthz", trust_env=False).status_code == 200


def test_open_connections_do_not_keep_it_from_stopping() -> None:
    with httpx.Client(trust_env=False) as client, server() as running:
        assert client.get(f"{running.url}/healthz").status_code == 200
        host, port = running.url.removeprefix("http://").split(":")
        half_sent = socket.create_connection((host, int(port)))
        half_sent.sendall(b"GET / HTTP/1.1\r\n")
    half_sent.close()
    assert "console" not in {thread.name for thread in threading.enumerate()}
