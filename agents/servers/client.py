"""``ChatClient``: a client for OpenAI-compatible chat endpoints that keeps going when the endpoint fails.

``Exchange`` sends the requests: shared connections, a bounded number of requests in flight, a time limit per attempt, retries
with backoff. This module adds the endpoint's address and key, the meaning of answers, and a cache on disk keyed by the canonical
request. What it leaves out: streaming, calling tools, several endpoints.

The key comes from an environment variable. It is sent in a header and nowhere else: the exchange erases it from whatever comes
back, so that a server that echoes it cannot put it into a log or a file, unless in a form that ``Secrets`` does not know.
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from steptool_env.errors import InvalidArgument
from steptool_env.files import write_text
from steptool_env.tools.exchange import Answer, Exchange, Failure, Request
from steptool_env.tools.secrets import read_secret

__all__ = ["ChatClient", "Failure"]

T = TypeVar("T")

_PASSING = (408, 409, 425, 429, 500, 502, 503, 504)
"""HTTP statuses of transient faults."""
_MOST_BYTES = 8_000_000
"""Longer answers are invalid."""


class ChatClient:
    """A client of a chat endpoint; may be used from several threads.

    Args:
        endpoint: Base address such as ``http://127.0.0.1:8000/v1``; requests go to ``/chat/completions`` below it.
        key_env: Name of the environment variable that holds the key. If it is not set, no key is sent.
        timeout: Seconds for one attempt, from connecting to the last byte.
        attempts: Most times that a request is sent.
        backoff: Seconds before the second attempt; doubled each time, with jitter, at most ``longest_wait``.
        longest_wait: Most seconds between two attempts, even if the server asks for more (``Retry-After``).
        concurrency: Most requests in flight.
        cache: Folder of the cache; None: no cache.

    Raises:
        MissingExtra: The package httpx2 is not installed.
        InvalidArgument: The endpoint is no valid address, a number is out of range, or the key cannot be sent in a header.
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
        parts = urllib.parse.urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidArgument(f"endpoint must be an address such as http://127.0.0.1:8000/v1, got {endpoint!r}")
        if parts.username or parts.password or parts.query:
            raise InvalidArgument(f"endpoint must hold neither a user, a password nor a query; put the key into the environment variable {key_env}")
        self.endpoint = endpoint
        self.url = f"{endpoint.rstrip('/')}/chat/completions"
        self.root = endpoint.rstrip("/").removesuffix("/v1")
        """The server's address, without ``/v1``."""
        key = read_secret(key_env, "Authorization")
        self._exchange = Exchange(
            self.root,
            "agents",
            timeout=timeout,
            attempts=attempts,
            backoff=backoff,
            longest_wait=longest_wait,
            concurrency=concurrency,
            max_bytes=_MOST_BYTES,
            passing=_PASSING,
            secrets={"Authorization": f"Bearer {key}" if key else ""},
            proxy=_proxy(self.url),
        )
        self.concurrency = concurrency
        self.cache = None if cache is None else Path(cache)

    @property
    def failures(self) -> Counter[str]:
        """Kind of failure -> number of attempts that failed so; ``"given up"`` counts requests."""
        return self._exchange.failures

    def __repr__(self) -> str:
        return f"ChatClient({self.url!r})"

    def close(self) -> None:
        """Close the connections."""
        self._exchange.close()

    def ask_all(self, requests: Sequence[tuple[Mapping[str, Any], int]], read: Callable[[int, Mapping[str, Any]], T]) -> list[T | Failure]:
        """Send many requests, ``concurrency`` at a time; for a request that is given up, the result is its ``Failure``.

        Args:
            requests: Pairs of a request's JSON body and a number that tells samples of the same request apart.
            read: Parses an answer, from the request's index in the list and the assistant's message. It raises ``ValueError`` if
                the message is invalid; the request is then sent again, and the message is not cached.
        """
        with ThreadPoolExecutor(max_workers=self.concurrency, thread_name_prefix="steptool-chat") as pool:
            return list(pool.map(lambda index: self._ask(*requests[index], lambda message: read(index, message)), range(len(requests))))

    def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], T] = lambda content: content) -> T | Failure:
        """Send one request to another address of the server, with the same retries and limits; never cached.

        Args:
            path: Below ``root``, such as ``/v1/completions``.
            body: The JSON body.
            read: Parses the answer, which is decoded from JSON, or else a text. It raises ``ValueError`` if the answer is invalid;
                the request is then sent again.
        """

        def parse(answer: Answer) -> T:
            text = self._content(answer).text
            try:
                content = json.loads(text)
            except (ValueError, RecursionError):
                content = text
            return read(content)

        return self._exchange.send(Request("POST", self.root + path, dict(body)), parse)

    # ---------------------------------------------------------------- one request
    def _ask(self, body: Mapping[str, Any], sample: int, read: Callable[[Mapping[str, Any]], T]) -> T | Failure:
        canonical = json.dumps({"url": self.url, "body": body, "sample": sample}, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        path = None if self.cache is None else self.cache / f"{hashlib.sha256(canonical.encode()).hexdigest()}.json"
        if path is not None and (message := _cached(path)) is not None:
            try:
                return read(message)
            except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError):
                pass  # written by another version, or damaged: the request is sent again, and the entry overwritten

        def parse(answer: Answer) -> T:
            message = _message(self._content(answer).content)
            value = read(message)
            if path is not None:
                self._store(path, message)
            return value

        return self._exchange.send(Request("POST", self.url, dict(body)), parse)

    def _content(self, answer: Answer) -> Answer:
        """Return the answer if its status is 200 and it is complete."""
        if answer.status != 200:
            raise Failure(f"http {answer.status}", f"HTTP status {answer.status}: {answer.text[:200]}", final=True)
        if answer.truncated:
            raise ValueError(f"it is longer than {_MOST_BYTES} bytes")
        return answer

    # ---------------------------------------------------------------- parts
    def _store(self, path: Path, message: Mapping[str, Any]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(message, sort_keys=True))
        except OSError:  # a full disk costs a second request later, not the run
            self._exchange.count("not cached")


def _message(content: bytes) -> Mapping[str, Any]:
    """Return the assistant's message of a chat completion."""
    try:
        choice = json.loads(content.decode("utf-8"))["choices"][0]
        message = choice["message"]
    except (ValueError, LookupError, TypeError, RecursionError) as fault:
        raise ValueError(f"it is no chat completion: {type(fault).__name__}: {fault}") from None
    if not isinstance(message, dict):
        raise ValueError(f"its message is no object: {message!r:.80}")
    # Servers send what belongs to the tokens of the message beside it.
    return message | {key: choice[key] for key in ("logprobs", "token_ids") if choice.get(key) is not None}


def _cached(path: Path) -> Mapping[str, Any] | None:
    try:
        message = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError):
        return None
    return message if isinstance(message, dict) else None


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment (``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``) wants for an address."""
    parts, proxies = urllib.parse.urlsplit(url), urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(parts.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
