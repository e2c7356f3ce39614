"""``Exchange``: sends requests and keeps going when the server misbehaves; below ``HttpClient`` and the agents' chat client.

One shared set of connections, a bounded number of attempts in flight, a time limit on the whole of an attempt, a limit on the
bytes of an answer, retries with back-off, and secrets: whatever a server sends back passes here, and is handed on without them.

What it leaves to its callers: which addresses may be called, redirects, what an answer means.
"""

from __future__ import annotations

import base64
import email.utils
import logging
import math
import random
import threading
import time
import urllib.parse
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from steptool_env.errors import InvalidArgument, MissingExtra, NotSupported
from steptool_env.tools.secrets import Secrets

__all__ = ["Answer", "Exchange", "Failure", "Request"]

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Failure(Exception):
    """A request that failed, or was given up: raised within an attempt, returned as a value after the last.

    Args:
        kind: What it is counted under: ``"timeout"``, ``"connection"``, ``"cut off"``, ``"nonsense"`` or ``"http 503"``.
        text: What went wrong.
        wait: Seconds that the server asked to wait for; None if it did not.
        final: True if asking again is of no use.
        acted: Whether the server may have acted on the request.
    """

    def __init__(self, kind: str, text: str, wait: float | None = None, final: bool = False, acted: bool = True) -> None:
        super().__init__(text)
        self.kind, self.wait, self.final, self.acted = kind, wait, final, acted


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent."""

    method: str
    url: str
    json: Any = None
    """The body, as JSON takes it; None sends none."""
    params: Mapping[str, Any] | None = None
    """Takes the place of the address's query."""
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    """The body as it is sent, in place of ``json``."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, without the secrets."""

    status: int
    headers: Mapping[str, str]
    """In lower case."""
    content: bytes
    """The decompressed body; ``max_bytes`` of it if it is longer."""
    truncated: bool
    """Whether the body is longer than ``max_bytes``."""
    location: str | None = None
    """The header ``Location``, as the server sent it: to go there, not to be shown, for it may hold a secret."""

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode("utf-8", "replace")


class Exchange:
    """Sends requests; may be used from several threads.

    Args:
        name: Name of the exchange, for the log.
        extra: The extra of this package that brings httpx2, for the error that it is missing.
        timeout: Seconds for one attempt, from connecting to the last byte; only the resolving of names is not in it.
        attempts: How often a request is sent at most.
        backoff: Seconds before the second attempt; doubled each time, with jitter, at most ``longest_wait``.
        longest_wait: Most seconds between two attempts, also if the server asks for more (``Retry-After``).
        concurrency: Most attempts in flight.
        max_bytes: A longer body is cut.
        passing: Transient HTTP statuses, which fail an attempt; all others are answers.
        secrets: Header name -> value, sent with every request; one that is empty is not. ``hide`` takes further ones.
        admit: Called with a host and each address it resolves to before a connection is made; raises if it must not be.
        proxy: Address of the proxy to go through; None goes straight.

    Raises:
        MissingExtra: The package httpx2 is not installed.
        InvalidArgument: A number is out of range.
    """

    def __init__(
        self,
        name: str,
        extra: str,
        *,
        timeout: float,
        attempts: int,
        backoff: float,
        longest_wait: float,
        concurrency: int,
        max_bytes: int,
        passing: Collection[int],
        secrets: Mapping[str, str],
        admit: Callable[[str, str], None] = lambda host, address: None,
        proxy: str | None = None,
    ) -> None:
        try:
            import httpcore2
            import httpx2

            from steptool_env.tools.deadline import Transport, expired, within
        except ImportError as fault:
            raise MissingExtra("asking a server over HTTP", "httpx2", f"pip install 'steptool-env[{extra}]'") from fault
        bounds = {"timeout": (timeout, 0.001), "attempts": (attempts, 1), "backoff": (backoff, 0), "longest_wait": (longest_wait, 0)}
        for argument, (value, least) in {**bounds, "concurrency": (concurrency, 1), "max_bytes": (max_bytes, 1)}.items():
            if not (value >= least and math.isfinite(value)):
                raise InvalidArgument(f"{argument} must be at least {least}, got {value!r}" if value != math.inf else f"{argument} must be finite, got inf")
        self.name, self.timeout, self.attempts, self.max_bytes = name, timeout, attempts, max_bytes
        self.backoff, self.longest_wait, self.concurrency = backoff, longest_wait, concurrency
        self.failures: Counter[str] = Counter()
        """How often an attempt failed, by kind; ``"given up"`` counts requests."""
        self._passing = frozenset(passing)
        self._headers = {header: value for header, value in secrets.items() if value}
        self._secrets = Secrets([*self._headers.values(), *_password(proxy)])
        self._core, self._httpx, self._within, self._expired = httpcore2, httpx2, within, expired
        self._client = httpx2.Client(transport=Transport(concurrency, admit, proxy), timeout=timeout, follow_redirects=False, trust_env=False)
        self._close = weakref.finalize(self, self._client.close)
        self._lock, self._slots = threading.Lock(), threading.BoundedSemaphore(concurrency)

    def __reduce__(self) -> NoReturn:
        raise NotSupported(f"what asks {self.name} holds open connections and keys, and cannot be pickled or copied; make another from the same arguments")

    def close(self) -> None:
        """Close the connections."""
        self._close()

    def send(self, request: Request, read: Callable[[Answer], T], *, harmless: bool = True) -> T | Failure:
        """Send a request until an answer can be read.

        Args:
            request: What to send.
            read: Turns an answer into the result. ``ValueError``, ``LookupError``, ``TypeError``, ``ArithmeticError`` and
                ``RecursionError`` say that the answer is nonsense: it is asked for again. It may raise a ``Failure`` of its own.
            harmless: Whether sending the request twice does no harm; if not, it is sent again only after failures in which the
                server cannot have acted on it.

        Returns:
            What ``read`` made of the answer, or the last attempt's ``Failure``.
        """

        def attempt() -> T:
            answer = self.once(request)
            try:
                return read(answer)
            except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as fault:
                raise Failure("nonsense", f"the answer makes no sense: {fault}") from None

        return self.persist(attempt, harmless=harmless)

    def persist(self, attempt: Callable[[], T], *, harmless: bool = True) -> T | Failure:
        """Run an attempt, which calls ``once`` and may raise ``Failure``, until it succeeds; see ``send``."""
        failure = Failure("none", "not sent")
        for number in range(self.attempts):
            try:
                with self._slots, self._within(self.timeout):
                    return attempt()
            except Failure as fault:
                failure = Failure(fault.kind, self.scrub(str(fault)), fault.wait, fault.final, fault.acted)
            self.count(failure.kind)
            if failure.final or number + 1 == self.attempts or (failure.acted and not harmless):
                break
            wait = failure.wait if failure.wait is not None else self.backoff * 2**number * (0.5 + random.random())
            time.sleep(min(max(wait, 0.0), self.longest_wait))
        self.count("given up")
        return failure

    def once(self, request: Request) -> Answer:
        """Send a request once, within what is left of the attempt's time, and return what came back; raises ``Failure``."""
        core, httpx, received = self._core, self._httpx, bytearray()
        late = f"no complete answer within {self.timeout:g} s"
        headers, secrets = {**request.headers, **self._headers}, self._secrets
        body = {"json": request.json} if request.content is None else {"content": request.content}
        try:
            with self._client.stream(request.method.upper(), request.url, params=request.params, headers=headers, **body) as response:
                status, fields = response.status_code, response.headers
                if "," in fields.get("Content-Encoding", ""):
                    # A few bytes, packed several times, can be unpacked for hours without one byte of result.
                    raise Failure("nonsense", f"the answer is compressed more than once: {self.scrub(fields['Content-Encoding'])[:80]}")
                for chunk in response.iter_bytes():
                    received += chunk
                    if self._expired():
                        raise Failure("timeout", late)
                    if len(received) > self.max_bytes + secrets.longest:
                        break
        except core.TimeoutException as fault:
            acted = not isinstance(fault, (core.ConnectTimeout, core.PoolTimeout))
            raise Failure("timeout", f"{late} ({type(fault).__name__})", acted=acted) from None
        except (core.RemoteProtocolError, httpx.RemoteProtocolError) as fault:
            raise Failure("cut off", f"the answer was cut off: {fault}") from None
        except (core.NetworkError, core.ProtocolError, core.ProxyError) as fault:
            raise Failure("connection", f"{type(fault).__name__}: {fault}", acted=not isinstance(fault, (core.ConnectError, core.ProxyError))) from None
        except httpx.DecodingError as fault:
            raise Failure("nonsense", f"the answer cannot be decompressed: {fault}") from None
        # Of what lies beyond max_bytes the beginning was read: a cut must not leave half a secret.
        content = secrets.erase(bytes(received), self.max_bytes)[: self.max_bytes]
        shown = {name.lower(): self.scrub(value) for name, value in fields.items()}
        answer = Answer(status, shown, content, len(received) > self.max_bytes, fields.get("Location"))
        if status in self._passing:
            wait = _retry_after(fields.get("Retry-After"))
            raise Failure(f"http {status}", f"HTTP status {status}: {answer.text[:200]}", wait, acted=status not in (429, 503))
        return answer

    def hide(self, values: Iterable[str]) -> None:
        """Erase these secrets, too, from whatever comes back from now on."""
        with self._lock:
            self._secrets = Secrets([*self._secrets.values, *values])

    def scrub(self, text: str) -> str:
        """Return the text without the secrets."""
        return self._secrets.scrub(text)

    def count(self, kind: str) -> None:
        """Count a failure; the first of its kind is logged."""
        with self._lock:
            self.failures[kind] += 1
            first = self.failures[kind] == 1
        if first:
            logger.warning("%s failed: %s (the first of this kind; further ones are counted, not logged)", self.name, kind)


def _password(proxy: str | None) -> list[str]:
    """Return the secret that a proxy's address holds, as it is sent."""
    parts = urllib.parse.urlsplit(proxy or "")
    if not parts.password:
        return []
    pair = f"{urllib.parse.unquote(parts.username or '')}:{urllib.parse.unquote(parts.password)}"
    return [f"Basic {base64.b64encode(pair.encode()).decode()}"]


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header, which holds a number or a date; None if it is absent or neither."""
    if value is None:
        return None
    try:
        return float(value) if value.strip().isdigit() else email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError, OSError):  # also a date before all calendars
        return None
