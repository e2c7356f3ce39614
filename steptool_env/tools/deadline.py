"""Deadlines for network operations: whatever is sent and received ``within`` a number of seconds ends in time.

The timeouts of an HTTP library limit silence only: a server that drips a byte now and then, that says ``100 Continue``
forever or whose compressed blocks are empty never meets them. Here the limit lies below the library: each operation on a
socket gets what is left of the whole. It ends in the thread that waits, so no second thread watches and none is left behind.

What it does not cover: the resolving of a name, which only the system can bound.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore2
import httpx2

__all__ = ["Transport", "expired", "within"]

_DEADLINE: ContextVar[float] = ContextVar("until", default=float("inf"))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Bound what this thread does on the network inside the block."""
    token = _DEADLINE.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def expired() -> bool:
    """Return whether the time of the block around this call is over."""
    return time.monotonic() > _DEADLINE.get()


class Transport(httpx2.BaseTransport):
    """Connections for ``httpx2.Client`` that keep to ``within``.

    Args:
        connections: Most connections, all of which may be kept alive.
        admit: Called with a host and each address that it resolves to, before a connection is made; may raise any exception. The
            connection goes to the very addresses that were admitted.
        proxy: Address of a proxy; ``admit`` then sees the proxy's host.
    """

    def __init__(self, connections: int, admit: Callable[[str, str], None], proxy: str | None = None) -> None:
        options: dict[str, Any] = {
            "ssl_context": httpx2.create_ssl_context(),
            "max_connections": connections,
            "max_keepalive_connections": connections,
            "keepalive_expiry": 5.0,
            "network_backend": _Backend(admit),
        }
        self._pool: httpcore2.ConnectionPool
        if proxy is None:
            self._pool = httpcore2.ConnectionPool(**options)
        else:
            server = httpx2.Proxy(proxy)
            kind = httpcore2.SOCKSProxy if server.url.scheme.startswith("socks") else httpcore2.HTTPProxy
            self._pool = kind(proxy_url=str(server.url), proxy_auth=server.raw_auth, **options)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        assert isinstance(request.stream, httpx2.SyncByteStream)
        url = httpcore2.URL(scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path)
        sent = httpcore2.Request(request.method, url, headers=request.headers.raw, content=request.stream, extensions=request.extensions)
        response = self._pool.handle_request(sent)
        return httpx2.Response(response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions)

    def close(self) -> None:
        self._pool.close()


class _Body(httpx2.SyncByteStream):
    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


class _Backend(httpcore2.NetworkBackend):
    def __init__(self, admit: Callable[[str, str], None]) -> None:
        self._admit, self._inner = admit, httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as fault:
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {fault}") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            self._admit(host, address)
        failed: Exception = httpcore2.ConnectError(f"{host} has no address")
        for number, address in enumerate(addresses):
            # One address that swallows packets must leave time for the others.
            share = _remaining(timeout, httpcore2.ConnectTimeout) / (len(addresses) - number)
            try:
                return _Stream(self._inner.connect_tcp(address, port, share, local_address, socket_options))
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as fault:
                failed = fault
        raise failed


class _Stream(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _remaining(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # Not the inner one's: it restarts its timeout whenever the server accepts some bytes.
        connection, view = self._inner.get_extra_info("socket"), memoryview(buffer)
        while view:
            connection.settimeout(_remaining(timeout, httpcore2.WriteTimeout))
            try:
                view = view[connection.send(view) :]
            except TimeoutError as fault:
                raise httpcore2.WriteTimeout(str(fault)) from None
            except OSError as fault:
                raise httpcore2.WriteError(str(fault)) from None

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None) -> httpcore2.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, _remaining(timeout, httpcore2.ConnectTimeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _remaining(timeout: float | None, over: type[Exception]) -> float:
    """Return the seconds that an operation may take; raises ``over`` if there are none."""
    left = _DEADLINE.get() - time.monotonic()
    if left <= 0:
        raise over("the time of the whole exchange is over")
    return left if timeout is None else min(left, timeout)
