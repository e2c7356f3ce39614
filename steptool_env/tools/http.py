"""``HttpClient``: how remote tools reach the network. Only hosts on the user's list, within bounds, and never raising a mistake.

What it guards against: a host that is not on the list, also behind a redirect; a name on the list that resolves to a
private address, unless that address is allowed as well; answers without end; a server that is slow, drips, or fails for a
while. A request that cannot be made good within its attempts raises ``Unavailable``: the step is then masked.

What it does not guard against: a name server that gives another address between the check and the connection.
"""

from __future__ import annotations

import email.utils
import ipaddress
import json
import os
import random
import socket
import threading
import time
import urllib.parse
import weakref
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from steptool_env.errors import InvalidArgument, MissingExtra, Unavailable

__all__ = ["HttpAnswer", "HttpClient", "NotAllowed"]

_AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses that may pass."""
_SAFE = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")
"""Methods that may be sent twice without harm; the others are sent again only if the server cannot have acted on them."""
_REDIRECTS = 5


class NotAllowed(Exception):
    """The address is not one that the user has allowed; never retried."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A complete answer."""

    status: int
    text: str
    """The body, at most ``max_bytes`` of it."""
    truncated: bool
    """Whether the body was longer."""

    def json(self) -> Any:
        """Return the body as JSON; raises ``ValueError``."""
        return json.loads(self.text)


class HttpClient:
    """Sends requests to allowed hosts; may be used from several threads.

    Args:
        hosts: The hosts that may be called: ``"api.example.com"``, ``"127.0.0.1:8000"`` (that port only). A private or local
            address is called only if it stands here itself, or a name that resolves to it is listed in ``private``.
        private: Names that may resolve to private addresses, such as ``"localhost"``.
        timeout: Seconds for one attempt, from connecting to the last byte.
        attempts: How often a request is sent at most.
        backoff: Seconds before the second attempt; doubled each time, with jitter, at most ``longest_wait``.
        longest_wait: Most seconds between two attempts, also if the server asks for more (``Retry-After``).
        concurrency: Most requests in flight.
        max_bytes: A longer body is cut.
        headers: Header name -> name of the environment variable that holds its value (a key, a token). Sent to allowed hosts
            only, and erased from every text that comes back.

    Raises:
        MissingExtra: The package httpx2 is not installed.
        InvalidArgument: No host is listed, or a number is out of range.
    """

    def __init__(
        self,
        hosts: Collection[str],
        *,
        private: Collection[str] = (),
        timeout: float = 15.0,
        attempts: int = 3,
        backoff: float = 0.25,
        longest_wait: float = 10.0,
        concurrency: int = 64,
        max_bytes: int = 1_000_000,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        try:
            import httpx2
        except ImportError as fault:
            raise MissingExtra("a tool behind HTTP", "httpx2", "pip install 'steptool-env[http]'") from fault
        if isinstance(hosts, str) or not hosts:
            raise InvalidArgument(f"hosts must list the hosts that may be called, such as ['api.example.com'], got {hosts!r}")
        if timeout <= 0 or attempts < 1 or concurrency < 1 or max_bytes < 1 or backoff < 0 or longest_wait < 0:
            raise InvalidArgument("timeout, attempts, concurrency and max_bytes must be positive, backoff and longest_wait not negative")
        self.hosts, self.private = frozenset(host.lower() for host in hosts), frozenset(name.lower() for name in private)
        self.timeout, self.attempts, self.backoff, self.longest_wait, self.max_bytes = timeout, attempts, backoff, longest_wait, max_bytes
        self.failures: Counter[str] = Counter()
        """How often an attempt failed, by kind; ``"given up"`` counts requests."""
        self._secrets = {name: os.environ.get(variable, "").strip() for name, variable in (headers or {}).items()}
        for name, variable in (headers or {}).items():
            if not (self._secrets[name].isascii() and self._secrets[name].isprintable()):
                raise InvalidArgument(f"the environment variable {variable} holds characters that the header {name!r} cannot; set it again")
        self._httpx = httpx2
        # The environment's proxies are not used: a proxy would resolve names for us, behind the check.
        self._client = httpx2.Client(
            timeout=timeout,
            limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            follow_redirects=False,
            trust_env=False,
        )
        self._close = weakref.finalize(self, self._client.close)
        self._lock, self._slots = threading.Lock(), threading.BoundedSemaphore(concurrency)

    def close(self) -> None:
        """Close the connections."""
        self._close()

    def check(self, url: str) -> None:
        """Raise ``NotAllowed`` with the reason if this address must not be called."""
        try:
            parts = urllib.parse.urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
        except ValueError as fault:
            raise NotAllowed(f"{url[:200]!r} is no address: {fault}") from None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise NotAllowed(f"{url[:200]!r} is no http(s) address of a host")
        if host not in self.hosts and f"{host}:{port}" not in self.hosts:
            raise NotAllowed(f"the host {host}:{port} is not on the list of allowed hosts")
        try:
            literal = ipaddress.ip_address(host)
        except ValueError:
            literal = None
        if literal is not None or host in self.private:
            return  # the user wrote down this very address
        try:
            found = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        except OSError as fault:
            raise _Passing("connection", f"{host} cannot be resolved: {fault}") from None
        for address in found:
            if not ipaddress.ip_address(address).is_global:
                raise NotAllowed(f"{host} resolves to the address {address}, which is not public; list {host!r} in private to allow it")

    def send(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        again: bool | None = None,
    ) -> HttpAnswer:
        """Send a request and return the answer, whatever its status, but for those that may pass.

        Args:
            method: The HTTP method.
            url: The whole address.
            params: Added to the query.
            json: The body, as JSON takes it.
            headers: Beside those of the client.
            again: Whether sending it twice does no harm; by default, of GET, PUT and the like only.

        Raises:
            NotAllowed: The address, or one that it redirects to, is not allowed.
            Unavailable: No usable answer within the attempts.
        """
        harmless = method.upper() in _SAFE if again is None else again
        fault = _Passing("none", "not sent")
        for attempt in range(self.attempts):
            try:
                with self._slots:
                    return self._follow(method, url, params, json, headers)
            except _Passing as problem:
                fault = problem
                self._count(problem.kind)
                if attempt + 1 == self.attempts or (problem.acted and not harmless):
                    break
                wait = problem.wait if problem.wait is not None else self.backoff * 2**attempt * (0.5 + random.random())
                time.sleep(min(max(wait, 0.0), self.longest_wait))
        self._count("given up")
        raise Unavailable(self._scrub(f"{method.upper()} {url.partition('?')[0]}: {fault}"))

    # ---------------------------------------------------------------- one attempt
    def _follow(self, method: str, url: str, params: Any, body: Any, headers: Mapping[str, str] | None) -> HttpAnswer:
        until = time.monotonic() + self.timeout
        for _ in range(_REDIRECTS + 1):
            self.check(url)
            answer, target = self._once(method, url, params, body, headers, until)
            if target is None:
                return answer
            url, params = urllib.parse.urljoin(url, target), None
            if answer.status == 303 or (answer.status in (301, 302) and method.upper() == "POST"):
                method, body = "GET", None
        raise NotAllowed(f"more than {_REDIRECTS} redirects")

    def _once(
        self, method: str, url: str, params: Any, body: Any, headers: Mapping[str, str] | None, until: float
    ) -> tuple[HttpAnswer, str | None]:
        httpx, received, cut = self._httpx, bytearray(), False
        sent = {**(headers or {}), **{name: value for name, value in self._secrets.items() if value}}
        try:
            with self._client.stream(method.upper(), url, params=params, json=body, headers=sent) as response:
                # The client's own time limit is one of silence: a server that drips a byte now and then would never meet it.
                for chunk in response.iter_bytes():
                    received += chunk
                    if time.monotonic() > until:
                        raise _Passing("timeout", f"no complete answer within {self.timeout:g} s", acted=True)
                    if len(received) > self.max_bytes:
                        cut = True
                        break
                status, fields = response.status_code, response.headers
        except httpx.TimeoutException as fault:
            acted = not isinstance(fault, httpx.ConnectTimeout)
            raise _Passing("timeout", f"no answer within {self.timeout:g} s ({type(fault).__name__})", acted=acted) from None
        except httpx.HTTPError as fault:
            raise _Passing("connection", f"{type(fault).__name__}: {fault}", acted=not isinstance(fault, httpx.ConnectError)) from None
        except httpx.InvalidURL as fault:
            raise NotAllowed(f"{url[:200]!r} is no address: {fault}") from None
        text = self._scrub(bytes(received[: self.max_bytes]).decode("utf-8", "replace"))
        if status in _AGAIN:
            raise _Passing(f"http {status}", f"HTTP status {status}: {text[:200]}", _retry_after(fields.get("Retry-After")), acted=status not in (429, 503))
        redirected = fields.get("Location") if status in (301, 302, 303, 307, 308) else None
        return HttpAnswer(status, text, cut), redirected

    # ---------------------------------------------------------------- parts
    def _scrub(self, text: str) -> str:
        for secret in self._secrets.values():
            for part in {secret, secret.removeprefix("Bearer ").strip()}:
                text = text.replace(part, "***") if part else text
        return text

    def _count(self, kind: str) -> None:
        with self._lock:
            self.failures[kind] += 1


class _Passing(Exception):
    """A fault that may pass; ``acted``: the server may have acted on the request."""

    def __init__(self, kind: str, text: str, wait: float | None = None, acted: bool = False) -> None:
        super().__init__(text)
        self.kind, self.wait, self.acted = kind, wait, acted


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header, which holds a number or a date; None if it is absent or neither."""
    if value is None:
        return None
    try:
        return float(value) if value.strip().isdigit() else email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return None
