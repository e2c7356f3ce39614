"""``HttpClient``: how remote tools reach the network. Only hosts on the user's list, within bounds, and never raising a mistake.

What it guards against: a host that is not on the list, also behind a redirect; a name on the list that resolves to a
private address, unless that address is allowed as well, looked up anew for every connection; answers without end; a server
that is slow, drips, or fails for a while. A request that cannot be made good within its attempts raises ``Unavailable``: the
step is then masked. ``fault_of_status`` says whose mistake an HTTP status is.
"""

from __future__ import annotations

import ipaddress
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from steptool_env.errors import InvalidArgument, Unavailable
from steptool_env.tools.exchange import Answer, Exchange, Failure, Request
from steptool_env.tools.secrets import read_secret

__all__ = ["HttpAnswer", "HttpClient", "NotAllowed", "Passing", "fault_of_status"]

_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Transient HTTP statuses: the request is sent again."""
_SAFE = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")
"""Methods that may be sent twice without harm; the others are sent again only if the server cannot have acted on them."""
_REDIRECTS = 5
_DOWN = ("http 502", "http 503", "http 504", "timeout", "connection", "cut off", "nonsense")
"""Kinds of failures that, after all attempts, say that nobody is there; the others come from the server itself."""
_NOT_ASKED = (405, 406, 411, 415)
"""The method or the media type is wrong: the document is not the server's, and no argument could mend that."""


class NotAllowed(Exception):
    """The address is not one that the user has allowed; never retried."""


class Passing(Unavailable):
    """The server is there, but could not answer this time, and another call may succeed: what it said, or that it was too late.

    Raised for a status such as 429 or 500, and for a request that must not be sent twice and got no answer. A server that does
    not answer any of the attempts is ``Unavailable`` and no more.
    """


def fault_of_status(status: int) -> str:
    """Return the kind of error (``steptool_env.ERRORS``) that the status of an HTTP answer is.

    ``""`` below 400; ``"unavailable"`` for 401, 403 and 407, because the model has no say in credentials (who knows that a 403
    answers what was asked for says so, ``OpenApiSource(forbidden=)``); ``"transient"`` for 408, 425, 429 and from 500 on;
    ``"tool_failed"`` where the document does not fit the server (405, 406, 411, 415); else ``"rejected"``.
    """
    if status < 400:
        return ""
    if status in (401, 403, 407):
        return "unavailable"
    if status in _PASSING or status >= 500:
        return "transient"
    return "tool_failed" if status in _NOT_ASKED else "rejected"


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
            only, and erased from every text that comes back, in all forms that ``Secrets`` knows.

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
        if isinstance(hosts, str) or not hosts:
            raise InvalidArgument(f"hosts must list the hosts that may be called, such as ['api.example.com'], got {hosts!r}")
        self.hosts = frozenset(host.lower() for host in hosts)
        # No proxy, whatever the environment says: it would resolve names for us, behind the check.
        self.headers = frozenset(headers or ())
        """Names of the headers with secrets that every request gets."""
        self._exchange = Exchange(
            "tools behind HTTP",
            "http",
            timeout=timeout,
            attempts=attempts,
            backoff=backoff,
            longest_wait=longest_wait,
            concurrency=concurrency,
            max_bytes=max_bytes,
            passing=_PASSING,
            secrets={name: read_secret(variable, name) for name, variable in (headers or {}).items()},
            admit=partial(_admit, frozenset(name.lower() for name in private)),
        )

    @property
    def failures(self) -> Counter[str]:
        """How often an attempt failed, by kind; ``"given up"`` counts requests."""
        return self._exchange.failures

    def close(self) -> None:
        """Close the connections."""
        self._exchange.close()

    def hide(self, values: Iterable[str]) -> None:
        """Erase these secrets, too, from every text that comes back: keys that requests hold elsewhere than in ``headers``."""
        self._exchange.hide(values)

    def check(self, url: str) -> None:
        """Raise ``NotAllowed`` with the reason if this address must not be called, wherever its host's name leads."""
        try:
            self._check(url)
        except NotAllowed as fault:
            raise NotAllowed(self._exchange.scrub(str(fault))[:500]) from None

    def _check(self, url: str) -> None:
        import httpx2

        shown = url[:2000]
        try:
            parts = httpx2.URL(url)  # by the rules that send it, so that there is no second reading of an address
        except (httpx2.InvalidURL, ValueError) as fault:  # ValueError: a lone surrogate has no bytes
            raise NotAllowed(f"{shown!r} is no address: {fault}") from None
        host, port = parts.raw_host.decode("ascii").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
        if parts.scheme not in ("http", "https") or not host or parts.userinfo:
            raise NotAllowed(f"{shown!r} is no http(s) address of a host")
        if not self.hosts & {host, f"{host}:{port}", parts.host, f"{parts.host}:{port}"}:
            raise NotAllowed(f"the host {host}:{port} is not on the list of allowed hosts")

    def send(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        again: bool | None = None,
    ) -> HttpAnswer:
        """Send a request and return the answer, whatever its status, except for transient ones (retried).

        Args:
            method: The HTTP method.
            url: The whole address.
            params: Added to the query.
            json: The body, as JSON takes it.
            content: The body as it is sent, for every other kind; its ``Content-Type`` stands in ``headers``.
            headers: Beside those of the client.
            again: Whether sending it twice does no harm; by default, of GET, PUT and the like only.

        Raises:
            NotAllowed: The address, or one that it redirects to, is not allowed.
            Unavailable: No usable answer within the attempts; ``Passing`` if another call may get one.
        """
        harmless = method.upper() in _SAFE if again is None else again
        request = Request(method.upper(), url, json, params, headers or {}, content)
        sent = 0

        def attempt() -> Answer:
            nonlocal sent
            sent += 1
            return self._follow(request)

        outcome = self._exchange.persist(attempt, harmless=harmless)
        if isinstance(outcome, Failure):
            gone = outcome.kind in _DOWN and sent == self._exchange.attempts
            raise (Unavailable if gone else Passing)(self._exchange.scrub(f"{request.method} {url.partition('?')[0]}: {outcome}"))
        return HttpAnswer(outcome.status, outcome.text, outcome.truncated)

    def _follow(self, request: Request) -> Answer:
        """Send a request and go where it is redirected to; all of it is one attempt."""
        for _ in range(_REDIRECTS + 1):
            self.check(request.url)
            answer = self._exchange.once(request)
            if answer.location is None or answer.status not in (301, 302, 303, 307, 308):
                return answer
            request = replace(request, url=self._target(request.url, answer.location), params=None)
            if answer.status == 303 or (answer.status in (301, 302) and request.method == "POST"):
                kept = {name: value for name, value in request.headers.items() if name.lower() != "content-type"}
                request = replace(request, method="GET", json=None, content=None, headers=kept)
        raise NotAllowed(f"more than {_REDIRECTS} redirects")

    def _target(self, url: str, location: str) -> str:
        """Return where a redirect leads; raises ``NotAllowed`` if that is no address."""
        import httpx2

        try:
            return str(httpx2.URL(url).join(location))
        except (httpx2.InvalidURL, ValueError) as fault:
            raise NotAllowed(f"redirected to what is no address: {self._exchange.scrub(location)[:200]!r} ({self._exchange.scrub(str(fault))[:200]})") from None


def _admit(private: Collection[str], host: str, address: str) -> None:
    """Raise ``NotAllowed`` if a connection to this host must not go to the address that it resolves to."""
    if host.lower() in private or _is_literal(host):
        return  # the user wrote down this very address
    if not ipaddress.ip_address(address.partition("%")[0]).is_global:
        raise NotAllowed(f"{host} resolves to the address {address}, which is not public; list {host!r} in private to allow it")


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
