"""Tools of an MCP server, through the official SDK: a process that is started (stdio), or an address (streamable HTTP).

The SDK is asynchronous; its client lives in one event loop in a thread of its own, and every call of a tool waits there
for its result, so that many episodes may call at the same time. A server that is gone is ``Unavailable``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import threading
import urllib.parse
import weakref
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from steptool_env.errors import InvalidArgument, MissingExtra, Unavailable, UnknownName
from steptool_env.tools.tool import Tool
from steptool_env.tools.toolkit import FINISH, Toolkit
from steptool_env.types import ToolResult

__all__ = ["McpSource"]

_GONE = "the MCP server is gone"


class McpSource:
    """The tools of one MCP server; make one, a ``toolkit()`` for every episode, and ``close`` it at the end.

    Args:
        server: The command that starts the server, as a list, or the address of a running one.
        hosts: For an address: the hosts that may be called, ``host`` or ``host:port``. It must name the server's.
        tools: Names of the tools to offer; all by default.
        env: For a command: environment variables that the process gets beside a few harmless ones.
        timeout: Seconds for one call.
        start_timeout: Seconds for starting the process or connecting, and listing the tools.
        concurrency: Most calls in flight.
        max_bytes: Longer results are cut.

    Raises:
        MissingExtra: The package mcp is not installed.
        Unavailable: The server does not start, or does not answer.
        UnknownName: ``tools`` names one that the server does not have.
    """

    def __init__(
        self,
        server: Sequence[str] | str,
        *,
        hosts: Collection[str] = (),
        tools: Collection[str] | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        start_timeout: float = 60.0,
        concurrency: int = 64,
        max_bytes: int = 1_000_000,
    ) -> None:
        try:
            import mcp
            from mcp.client.stdio import StdioServerParameters
        except ImportError as fault:
            raise MissingExtra("an MCP server as a source of tools", "mcp", "pip install 'steptool-env[mcp]'") from fault
        if isinstance(server, str):
            parts = urllib.parse.urlsplit(server)
            if parts.hostname not in hosts and parts.netloc not in hosts:
                raise InvalidArgument(f"the host of {server!r} is not on the list of allowed hosts: {sorted(hosts)}")
            target: Any = server  # the SDK follows redirects within the same origin only
        else:
            target = StdioServerParameters(command=server[0], args=list(server[1:]), env=dict(env or {}) or None)
        self.timeout, self.max_bytes = timeout, max_bytes
        self._client = mcp.Client(target)
        self._loop = asyncio.new_event_loop()
        self._stop: asyncio.Event | None = None
        self._slots = threading.BoundedSemaphore(concurrency)
        self._ready: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._thread = threading.Thread(target=_serve, args=(weakref.proxy(self), self._loop, self._client, self._ready), daemon=True, name="steptool-mcp")
        self._thread.start()
        try:
            listed, self._stop = self._ready.result(start_timeout)
        except Exception as fault:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._loop.stop)
            raise Unavailable(f"the MCP server {server!r} does not answer: {_cause(fault)}") from None
        found = {tool.name: self._tool(tool) for tool in listed if tool.name != "finish"}
        for name in tools or ():
            if name not in found:
                raise UnknownName("tool of the MCP server", name, found)
        self.tools = {name: found[name] for name in (found if tools is None else tools)}
        self._finalizer = weakref.finalize(self, _end, self._loop, self._stop)

    def toolkit(self) -> Toolkit:
        """Return the tools for one episode. The state is the server's, so it cannot be copied."""
        return Toolkit([*self.tools.values(), FINISH])

    def close(self) -> None:
        """End the connection, and the process that was started for it."""
        self._finalizer()
        self._thread.join(timeout=10)

    # ---------------------------------------------------------------- one call
    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Call a tool; raises ``Unavailable`` or ``TimeoutError``."""
        if not self._thread.is_alive():
            raise Unavailable(_GONE)
        with self._slots:
            try:
                waiting = asyncio.run_coroutine_threadsafe(self._client.call_tool(name, dict(arguments)), self._loop)
            except RuntimeError:  # the loop is closed
                raise Unavailable(_GONE) from None
            try:
                result = waiting.result(self.timeout)
            except concurrent.futures.TimeoutError:
                waiting.cancel()
                raise TimeoutError(f"no result within {self.timeout:g} s") from None
            except concurrent.futures.CancelledError:
                raise Unavailable(_GONE) from None
            except Exception as fault:
                return _failed(fault)
        text = _text(result)
        if len(text) > self.max_bytes:
            text = f"{text[: self.max_bytes]} … [cut]"
        return ToolResult(text, "tool_failed" if result.is_error else "")

    def _tool(self, listed: Any) -> Tool:
        schema = {"properties": {}, **(listed.input_schema or {}), "type": "object"}
        name = str(listed.name)
        return Tool(name, listed.description or "", schema, _Call(self, name), waits=True)


class _Call:
    """The function of one tool."""

    def __init__(self, source: McpSource, name: str) -> None:
        self.source, self.name = source, name

    def __call__(self, /, **arguments: Any) -> ToolResult:
        return self.source.call(self.name, arguments)


def _serve(_: Any, loop: asyncio.AbstractEventLoop, client: Any, ready: concurrent.futures.Future[Any]) -> None:
    """Keep the client open in this thread until it is told to stop."""

    async def live() -> None:
        stop = asyncio.Event()
        async with client:
            listed, cursor = [], None
            while True:
                page = await client.list_tools(cursor=cursor)
                listed += page.tools
                cursor = page.next_cursor
                if not cursor:
                    break
            ready.set_result((listed, stop))
            await stop.wait()

    try:
        loop.run_until_complete(live())
    except BaseException as fault:  # also what anyio makes of a connection that broke
        if not ready.done():
            ready.set_exception(fault)
    finally:
        with contextlib.suppress(Exception):
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def _end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(stop.set)


def _failed(fault: Exception) -> ToolResult:
    """Return the observation of what the server said is wrong; raise if the server is not there to say anything."""
    code = getattr(getattr(fault, "error", None), "code", None)
    if code == -32001 or isinstance(fault, TimeoutError):
        raise TimeoutError(str(fault)) from None
    if code is None or code == -32000:  # no answer of the server's: the connection is closed
        raise Unavailable(f"{_GONE}: {_cause(fault)}") from None
    return ToolResult(f"Error: {fault}", "bad_arguments" if code == -32602 else "tool_failed")


def _cause(fault: BaseException) -> str:
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return f"{type(fault).__name__}: {fault}"


def _text(result: Any) -> str:
    """Return the text parts of a result; of another part, what it is."""
    parts = [part.text if part.type == "text" else f"[{part.type}]" for part in result.content]
    if not parts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(parts)
