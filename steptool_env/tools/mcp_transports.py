"""How an MCP server is reached: a process over stdio, or an address over streamable HTTP or the older HTTP with server-sent events."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TextIO, TypeAlias

import httpx2
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

__all__ = ["REMOTE", "Opener", "cause", "process"]

Opener: TypeAlias = Callable[[TextIO], AbstractAsyncContextManager[Any]]
"""Makes a transport, given a file for the messages of a process."""

_CONNECT = 30.0
_HINTS = {
    **dict.fromkeys((401, 403), "the server wants another token or other headers"),
    **dict.fromkeys((400, 404, 405, 406, 415), "this is no streamable HTTP; for the older transport, give transport='sse'"),
}
"""What to do about a refusal."""
_SILENCE = 7 * 86400.0
"""Seconds. Calls have a limit of their own; a stream on which the server says nothing may stay open."""


def cause(fault: BaseException) -> str:
    """Return in words what went wrong, out of the groups that anyio makes of it."""
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return f"{type(fault).__name__}: {fault}"


def process(command: Sequence[str], env: Mapping[str, str] | None, cwd: str | os.PathLike[str] | None) -> Opener:
    """Start a server, and speak with it over its stdin and stdout."""
    folder = None if cwd is None else os.fspath(cwd)
    server = StdioServerParameters(command=command[0], args=list(command[1:]), env=dict(env or {}) or None, cwd=folder)
    return lambda noise: stdio_client(server, errlog=noise)


def _http(url: str, headers: Mapping[str, str], most_bytes: int) -> Opener:
    @asynccontextmanager
    async def transport(_: TextIO) -> AsyncIterator[Any]:
        refused: list[int] = []

        async def note(response: httpx2.Response) -> None:
            if response.status_code >= 400:
                refused.append(response.status_code)

        timeout = httpx2.Timeout(_CONNECT, read=_SILENCE)
        try:
            client = httpx2.AsyncClient(headers=dict(headers), timeout=timeout, event_hooks={"response": [note]})
            # The SDK follows redirects within the same origin only.
            async with client, streamable_http_client(url, http_client=client, max_sse_event_size=most_bytes) as streams:
                yield streams
        except Exception as fault:
            if not refused:
                raise
            hint = _HINTS.get(refused[-1], "the server refuses")
            raise ConnectionError(f"HTTP {refused[-1]}: {hint} ({cause(fault)})") from fault

    return transport


def _sse(url: str, headers: Mapping[str, str], most_bytes: int) -> Opener:
    return lambda noise: sse_client(url, dict(headers), timeout=_CONNECT, sse_read_timeout=_SILENCE)


REMOTE: dict[str, Callable[[str, Mapping[str, str], int], Opener]] = {"http": _http, "sse": _sse}
"""Name of a transport -> what makes it, given the address, the headers, and the most bytes of an answer."""
