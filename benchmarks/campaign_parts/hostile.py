"""Servers on loopback that do what servers should not: raw sockets, in threads that end with the process of the case."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

__all__ = ["BOMBS", "SLOW", "Request", "Server", "answer"]


@dataclass
class Request:
    """What came in."""

    line: str
    head: str
    body: bytes

    def header(self, name: str) -> str:
        """Return a header; empty if it is missing."""
        found = [line.partition(":")[2].strip() for line in self.head.split("\r\n") if line.lower().startswith(f"{name.lower()}:")]
        return found[0] if found else ""


Talk = Callable[[Request], Iterable[bytes]]
"""What a server sends, part by part; after the last one it closes the connection."""


@dataclass
class Server:
    """A server; ``requests`` holds what it was asked, ``connections`` counts also those without a request."""

    talk: Talk
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                if not (chunk := connection.recv(65536)):
                    return
                data += chunk
            head, _, body = data.partition(b"\r\n\r\n")
            line, _, rest = head.decode("latin-1").partition("\r\n")
            request = Request(line, rest, body)
            while len(request.body) < int(request.header("Content-Length") or 0):
                request.body += connection.recv(65536)
            self.requests.append(request)
            for part in self.talk(request):
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(1)
            while connection.recv(65536):
                pass


def answer(body: bytes, status: str = "200 OK", **headers: str) -> Iterator[bytes]:
    """Yield an orderly answer."""
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    yield "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + body


def _drip(parts: Iterable[bytes], every: float = 0.02) -> Iterator[bytes]:
    for part in parts:
        yield part
        time.sleep(every)


def _bytes(text: bytes) -> Iterator[bytes]:
    return (bytes([byte]) for byte in text)


def _chain(*parts: Iterable[bytes]) -> Iterator[bytes]:
    return itertools.chain(*parts)


OK = b"HTTP/1.1 200 OK\r\n"
_GZIP = OK + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08" + b"\0" * 7

SLOW: dict[str, Talk] = {
    "silence": lambda request: _drip([b""] * 3000),
    "a dripped status line": lambda request: _drip(_bytes(b"HTTP/1.1 200 " + b"O" * 100_000)),
    "dripped headers": lambda request: _drip(_bytes(OK + b"X-Long: header\r\n" * 10_000)),
    "endless headers": lambda request: _chain([OK], itertools.repeat(b"X-Long: header\r\n" * 100)),
    "one endless header": lambda request: _chain([OK, b"X-Long: "], itertools.repeat(b"x" * 10_000)),
    "endless 100 Continue": lambda request: _drip(itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "100 Continue without a pause": lambda request: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "102 Processing without a pause": lambda request: itertools.repeat(b"HTTP/1.1 102 Processing\r\n\r\n" * 100),
    "empty gzip blocks": lambda request: _drip(_chain([_GZIP], itertools.repeat(b"\0\0\0\xff\xff"))),
    "empty gzip blocks without a pause": lambda request: _chain([_GZIP], itertools.repeat(b"\0\0\0\xff\xff" * 1000)),
    "a dripped body": lambda request: _drip(_chain([OK + b"\r\n"], itertools.repeat(b"."))),
    "dripped chunks": lambda request: _drip(_chain([OK + b"Transfer-Encoding: chunked\r\n\r\n"], itertools.repeat(b"1\r\n.\r\n"))),
    "a dripped trailer": lambda request: _drip(_chain([OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"], itertools.repeat(b"X-A: b\r\n"))),
    "a chunk's endless extension": lambda request: _chain([OK + b"Transfer-Encoding: chunked\r\n\r\n1;"], itertools.repeat(b"x" * 1000)),
    "slow redirects to itself": lambda request: _slow_redirect(),
}
"""Name -> a server that would keep a client for ever, or nearly."""


def _slow_redirect() -> Iterator[bytes]:
    time.sleep(0.3)
    yield from answer(b"", "302 Found", Location="/again")


def _squeezed(times: int, encoding: str) -> Talk:
    """A hundred megabytes of nothing, compressed so many times."""
    pack = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    data = b"".join(pack.compress(b"\0" * 1_000_000) for _ in range(100)) + pack.flush()
    for _ in range(times - 1):
        data = gzip.compress(data)
    return lambda request: answer(data, Content_Encoding=", ".join([encoding] * times))


BOMBS: dict[str, Callable[[], Talk]] = {
    "gzip": lambda: _squeezed(1, "gzip"),
    "gzip in gzip": lambda: _squeezed(2, "gzip"),
    "gzip in gzip in gzip": lambda: _squeezed(3, "gzip"),
    "deflate": lambda: _squeezed(1, "deflate"),
    "an endless body": lambda: lambda request: _chain([OK + b"\r\n"], itertools.repeat(b"x" * 100_000)),
    "endless chunks": lambda: lambda request: _chain([OK + b"Transfer-Encoding: chunked\r\n\r\n"], itertools.repeat(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")),
    "a huge length": lambda: lambda request: _chain([OK + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n"], itertools.repeat(b"x" * 100_000)),
    "a negative length": lambda: lambda request: [OK + b"Content-Length: -5\r\n\r\nabc"],
    "two lengths": lambda: lambda request: [OK + b"Content-Length: 3\r\nContent-Length: 30\r\n\r\nabc"],
    "not HTTP": lambda: lambda request: [b"\x16\x03\x01" + bytes(range(256)) * 100],
    "broken gzip": lambda: lambda request: answer(b"\x1f\x8b\x08" + b"\xff" * 1000, Content_Encoding="gzip"),
    "an unknown encoding": lambda: lambda request: answer(b"abc", Content_Encoding="zstd, br, made-up"),
    "an unknown character set": lambda: lambda request: answer(b"\xff\xfe\xfd", Content_Type="text/plain; charset=made-up"),
    "a header with control characters": lambda: lambda request: [OK + b"X-A: \x00\x1b[31m\x07\r\nContent-Length: 1\r\n\r\nx"],
    "a status beyond": lambda: lambda request: answer(b"x", "999 What"),
    "a status below": lambda: lambda request: answer(b"x", "042 What"),
    "an upgrade": lambda: lambda request: answer(b"", "101 Switching Protocols", Upgrade="made-up"),
    "nothing": lambda: lambda request: [],
    "a wait of a year": lambda: lambda request: answer(b"", "503 Down", Retry_After="31536000"),
    "a wait of 10^400 s": lambda: lambda request: answer(b"", "503 Down", Retry_After="1" + "0" * 400),
    "a wait until the year 0": lambda: lambda request: answer(b"", "503 Down", Retry_After="Mon, 01 Jan 0000 00:00:00 GMT"),
    "a wait in other digits": lambda: lambda request: answer(b"", "503 Down", Retry_After="²"),
}
"""Name -> makes a server whose answer is too long, or no answer."""
