"""``ChatClient``: asks an OpenAI-compatible chat endpoint, and keeps going when the endpoint misbehaves.

One shared HTTP client, a bounded number of requests in flight, a time limit per attempt, retries with back-off, and a cache
on disk keyed by the canonical request. What is not there: streaming, tools that are really called, several endpoints.

The key comes from an environment variable. It is sent in a header and nowhere else: texts of errors and cached answers are
searched for it, so that not even a server that sends it back can put it into a log or a file.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import logging
import os
import random
import threading
import time
import urllib.parse
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from steptool_env.errors import InvalidArgument, MissingExtra
from steptool_env.files import write_text

__all__ = ["ChatClient", "Failure"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
"""HTTP statuses that may pass."""
_MOST_BYTES = 8_000_000
"""An answer that is longer is cut off by this side."""


class Failure(Exception):
    """A request that was given up; ``kind`` is what the client counts it under."""

    def __init__(self, kind: str, text: str, wait: float | None = None, final: bool = False) -> None:
        super().__init__(text)
        self.kind = kind
        self.wait = wait
        """Seconds that the server asked to wait for."""
        self.final = final
        """True if asking again is of no use."""


class ChatClient:
    """Asks a chat endpoint; may be used from several threads.

    Args:
        endpoint: Base address such as ``http://127.0.0.1:8000/v1``; requests go to ``/chat/completions`` below it.
        key_env: Name of the environment variable that holds the key. If it is not set, no key is sent.
        timeout: Seconds for one attempt, from connecting to the last byte.
        attempts: How often a request is sent at most.
        backoff: Seconds before the second attempt; doubled each time, with jitter, at most ``longest_wait``.
        longest_wait: Most seconds between two attempts, also if the server asks for more (``Retry-After``).
        concurrency: Most requests in flight.
        cache: Folder of the cache; None keeps none.

    Raises:
        MissingExtra: The package httpx2 is not installed.
        InvalidArgument: The address is none, a number is out of range, or the key cannot be sent in a header.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        key_env: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        attempts: int = 4,
        backoff: float = 0.5,
        longest_wait: float = 15.0,
        concurrency: int = 8,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        try:
            import httpx2
        except ImportError:
            raise MissingExtra("the chat client", "httpx2", "pip install 'steptool-env[agents]'") from None
        parts = urllib.parse.urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidArgument(f"endpoint must be an address such as http://127.0.0.1:8000/v1, got {endpoint!r}")
        if parts.username or parts.password or parts.query:
            raise InvalidArgument(f"endpoint must hold neither a user, a password nor a query; put the key into the environment variable {key_env}")
        for name, value, least in (("timeout", timeout, 0.001), ("attempts", attempts, 1), ("backoff", backoff, 0), ("concurrency", concurrency, 1)):
            if not value >= least:
                raise InvalidArgument(f"{name} must be at least {least}, got {value!r}")
        self.url = f"{endpoint.rstrip('/')}/chat/completions"
        self.root = endpoint.rstrip("/").removesuffix("/v1")
        """The server's address, without ``/v1``."""
        self.timeout, self.attempts, self.backoff, self.longest_wait, self.concurrency = timeout, attempts, backoff, longest_wait, concurrency
        self.cache = None if cache is None else Path(cache)
        self.failures: Counter[str] = Counter()
        """Kind of failure -> how many attempts ended so; ``"given up"`` counts requests."""
        self._key = os.environ.get(key_env, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise InvalidArgument(f"the key in the environment variable {key_env} holds characters that a header cannot; set it again")
        self._httpx = httpx2
        self._client = httpx2.Client(
            timeout=timeout,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )
        self._close = weakref.finalize(self, self._client.close)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"ChatClient({self.url!r})"

    def close(self) -> None:
        """Close the connections."""
        self._close()

    def ask_all(self, requests: Sequence[tuple[Mapping[str, Any], int]], read: Callable[[int, Mapping[str, Any]], T]) -> list[T | Failure]:
        """Ask many requests, ``concurrency`` at a time; a request that is given up yields its ``Failure``.

        Args:
            requests: Pairs of a request's body, as JSON takes it, and a number that tells samples of one request apart.
            read: From the request's place in the list and the assistant's message to what is wanted; raises ``ValueError``
                if the message is nonsense, which is then asked for again and not cached.
        """
        with ThreadPoolExecutor(max_workers=self.concurrency, thread_name_prefix="steptool-chat") as pool:
            return list(pool.map(lambda place: self._ask(*requests[place], lambda message: read(place, message)), range(len(requests))))

    def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], T] = lambda content: content) -> T | Failure:
        """Send one request to another address of the server, with the same retries and limits; never cached.

        Args:
            path: Below ``root``, such as ``/v1/completions``.
            body: As JSON takes it.
            read: From the answer, as JSON or else as text, to what is wanted; raises ``ValueError`` if the answer is nonsense,
                which is then asked for again.
        """

        def send() -> T:
            text = self._fetch(self.root + path, body).decode("utf-8", "replace")
            try:
                content = json.loads(text)
            except (ValueError, RecursionError):
                content = text
            return _read(read, content)

        return self._attempts(send)

    # ---------------------------------------------------------------- one request
    def _ask(self, body: Mapping[str, Any], sample: int, read: Callable[[Mapping[str, Any]], T]) -> T | Failure:
        canonical = json.dumps({"url": self.url, "body": body, "sample": sample}, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        path = None if self.cache is None else self.cache / f"{hashlib.sha256(canonical.encode()).hexdigest()}.json"
        if path is not None and (message := _cached(path)) is not None:
            try:
                return read(message)
            except ValueError:
                pass  # written by another version, or damaged: asked for again, and overwritten

        def send() -> T:
            message = self._send(body)
            value = _read(read, message)
            if path is not None:
                self._store(path, message)
            return value

        return self._attempts(send)

    def _attempts(self, send: Callable[[], T]) -> T | Failure:
        failure = Failure("none", "not asked")
        for attempt in range(self.attempts):
            try:
                return send()
            except Failure as fault:
                failure = Failure(fault.kind, self._scrub(str(fault)), fault.wait, fault.final)
                self._count(failure.kind)
                if failure.final or attempt + 1 == self.attempts:
                    break
                wait = failure.wait if failure.wait is not None else self.backoff * 2**attempt * (0.5 + random.random())
                time.sleep(min(max(wait, 0.0), self.longest_wait))
        self._count("given up")
        return failure

    def _fetch(self, url: str, body: Mapping[str, Any]) -> bytes:
        """Send a request once and return what came back with status 200."""
        httpx, until, received = self._httpx, time.monotonic() + self.timeout, bytearray()
        try:
            with self._client.stream("POST", url, json=dict(body)) as response:
                # The client's own time limit is one of silence: a server that drips a byte now and then would never meet it.
                for chunk in response.iter_bytes():
                    received += chunk
                    if time.monotonic() > until:
                        raise Failure("timeout", f"no complete answer within {self.timeout:g} s")
                    if len(received) > _MOST_BYTES:
                        raise Failure("nonsense", f"the answer is longer than {_MOST_BYTES} bytes")
                status, headers = response.status_code, response.headers
        except httpx.TimeoutException as fault:
            raise Failure("timeout", f"no answer within {self.timeout:g} s ({type(fault).__name__})") from None
        except httpx.RemoteProtocolError as fault:
            raise Failure("cut off", f"the answer was cut off: {fault}") from None
        except httpx.HTTPError as fault:
            raise Failure("connection", f"{type(fault).__name__}: {fault}") from None
        if status != 200:
            text = bytes(received[:200]).decode("utf-8", "replace")
            raise Failure(f"http {status}", f"HTTP status {status}: {text}", _retry_after(headers.get("Retry-After")), final=status not in _AGAIN)
        return bytes(received)

    def _send(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send a request once and return the assistant's message."""
        received = self._fetch(self.url, body)
        try:
            choice = json.loads(received.decode("utf-8"))["choices"][0]
            message = choice["message"]
        except (ValueError, LookupError, TypeError, RecursionError) as fault:
            raise Failure("nonsense", f"the answer is no chat completion: {type(fault).__name__}: {fault}") from None
        if not isinstance(message, dict):
            raise Failure("nonsense", f"the answer's message is no object: {message!r:.80}")
        # What servers send beside the message about its tokens belongs to it.
        return message | {key: choice[key] for key in ("logprobs", "token_ids") if choice.get(key) is not None}

    # ---------------------------------------------------------------- parts
    def _store(self, path: Path, message: Mapping[str, Any]) -> None:
        text = self._scrub(json.dumps(message, sort_keys=True))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        except OSError:  # a full disk costs a second request later, not the run
            self._count("not cached")

    def _scrub(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _count(self, kind: str) -> None:
        with self._lock:
            self.failures[kind] += 1
            first = self.failures[kind] == 1
        if first:
            logger.warning("%s: %s (further ones are only counted)", self.root, kind)


def _read(read: Callable[[Any], T], message: Any) -> T:
    try:
        return read(message)
    except (LookupError, TypeError, ValueError, RecursionError) as fault:
        raise Failure("nonsense", f"the answer makes no sense: {fault}") from None


def _cached(path: Path) -> Mapping[str, Any] | None:
    try:
        message = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return message if isinstance(message, dict) else None


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header, which holds a number or a date; None if it is absent or neither."""
    if value is None:
        return None
    try:
        return float(value) if value.strip().isdigit() else email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return None
