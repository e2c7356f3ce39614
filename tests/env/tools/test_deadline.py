"""``timeout`` is a promise about the whole exchange, whatever the server does in the meantime; real sockets on loopback."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pytest
from servers import talking

from steptool_env.errors import Unavailable
from steptool_env.tools.http import HttpClient

pytest.importorskip("httpx2")


def drip(parts: Iterable[bytes], every: float = 0.02) -> Callable[[socket.socket], None]:
    """A server that sends a part now and then; no silence is ever as long as a time limit."""

    def talk(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
            time.sleep(every)

    return talk


def one_by_one(text: bytes) -> Iterator[bytes]:
    return (bytes([byte]) for byte in text)


def empty_blocks() -> Iterator[bytes]:
    """An answer in gzip that goes on for ever and unpacks to nothing."""
    yield b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08" + b"\0" * 7
    yield from itertools.repeat(b"\0\0\0\xff\xff")  # a stored block of length 0


def deaf(connection: socket.socket) -> None:
    """A server that takes a little of a long request now and then, and says nothing."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    while connection.recv(65536):
        time.sleep(0.02)


SERVERS = {
    "silence": lambda: drip([b""] * 60),
    "a dripped status line": lambda: drip(one_by_one(b"HTTP/1.1 200 " + b"O" * 1000)),
    "dripped headers": lambda: drip(one_by_one(b"HTTP/1.1 200 OK\r\n" + b"X-Long: header\r\n" * 100)),
    "endless 100 Continue": lambda: drip(itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "100 Continue without a pause": lambda: drip(itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 100), every=0.0),
    "empty gzip blocks": lambda: drip(empty_blocks()),
    "empty gzip blocks without a pause": lambda: drip(empty_blocks(), every=0.0),
    "a dripped body": lambda: drip(itertools.chain([b"HTTP/1.1 200 OK\r\n\r\n"], itertools.repeat(b"."))),
    "a dripped trailer": lambda: drip(itertools.chain([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"], itertools.repeat(b"X-A: b\r\n"))),
    "a request that is taken in slowly": lambda: deaf,
}


@pytest.mark.parametrize("name", SERVERS)
def test_no_server_keeps_an_attempt_longer_than_its_time(name: str) -> None:
    before = threading.active_count()
    with talking(SERVERS[name]()) as here:
        client = HttpClient([here], timeout=0.4, attempts=1)
        body = "x" * 20_000_000 if name == "a request that is taken in slowly" else None
        started = time.monotonic()
        with pytest.raises(Unavailable, match=r"no complete answer within 0\.4 s"):
            client.send("POST", f"http://{here}/", json=body)
        assert 0.3 < time.monotonic() - started < 1.0
        assert client.failures == {"timeout": 1, "given up": 1}
        client.close()
    assert threading.active_count() == before


def test_redirects_and_attempts_share_their_time() -> None:
    def talk(connection: socket.socket) -> None:
        time.sleep(0.15)
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with talking(talk) as here:
        client = HttpClient([here], timeout=0.4, attempts=2, backoff=0.0)
        started = time.monotonic()
        with pytest.raises(Unavailable, match="no complete answer"):
            client.send("GET", f"http://{here}/")  # six redirects take 0.9 s
        assert 0.7 < time.monotonic() - started < 1.2
        client.close()


def test_a_slow_answer_within_the_time_is_read_and_the_connection_used_again() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    connections = []

    def talk(connection: socket.socket) -> None:
        connections.append(connection)
        while True:
            for byte in one_by_one(answer):
                connection.sendall(byte)
                time.sleep(0.002)
            if not connection.recv(65536):
                return

    with talking(talk) as here:
        client = HttpClient([here], timeout=5.0, attempts=1)
        assert [client.send("GET", f"http://{here}/").text for _ in range(3)] == ["ok"] * 3
        client.close()
    assert len(connections) == 1
    assert not client.failures


def test_an_address_that_refuses_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with talking(drip([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"])) as here:
        port = int(here.partition(":")[2])
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.9", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, real=socket.getaddrinfo, **named: found if args[0] == "shop.test" else real(*args, **named))
        client = HttpClient(["shop.test"], private=["shop.test"], timeout=2.0, attempts=1)
        assert client.send("GET", f"http://shop.test:{port}/").text == "ok"
        client.close()


def test_the_address_that_was_checked_is_the_one_that_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that first gives a public address and then a private one opens no door."""
    turn = itertools.count()

    def resolve(host: str, port: int, *_: object, **__: object) -> list[object]:
        address = host if host[0].isdigit() else ("192.0.0.9", "127.0.0.1")[min(next(turn), 1)]  # 192.0.0.9: global, nobody there
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    with talking(drip([b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ninside"])) as here:
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        client = HttpClient(["shop.test"], timeout=0.3, attempts=1)
        with pytest.raises(Unavailable):
            client.send("GET", f"http://shop.test:{here.partition(':')[2]}/")
        assert next(turn) == 1
        client.close()
