"""``Connection``: one session with an MCP server, which is open, or gone for good; below ``McpSource``.

The SDK is asynchronous. All sessions live in one event loop in a thread of its own, each in a task, and every call waits there
for its result, so that many episodes may call at the same time.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import logging
import math
import os
import threading
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TextIO

import anyio
import mcp
from mcp.shared.exceptions import MCPError
from mcp.types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    REQUEST_TIMEOUT,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
)
from mcp.types import Tool as ListedTool
from pydantic import ValidationError

from steptool_env.errors import Unavailable
from steptool_env.tools.awaiting import background
from steptool_env.tools.mcp_content import content_text
from steptool_env.tools.mcp_transports import cause
from steptool_env.types import ToolResult

__all__ = ["Connection", "Noise"]

_PAGES = 100
"""Most pages of a listing: one without end must not hang."""
_BROKEN = (INTERNAL_ERROR, PARSE_ERROR, METHOD_NOT_FOUND, INVALID_REQUEST)
"""Codes of errors that no argument of a model leads to."""


class Connection:
    """One session; opened when it is made.

    Args:
        open_transport: Makes the SDK's transport, given a file for the messages of a process.
        legacy: Whether the server speaks only the protocol of 2025 and before, so that asking for more is of no use.
        start_timeout: Seconds until the server must have started, answered, and listed its tools.

    Raises:
        Unavailable: It did not. Its process has been ended; the message holds its last words.
    """

    def __init__(self, open_transport: Callable[[TextIO], AbstractAsyncContextManager[Any]], *, legacy: bool, start_timeout: float) -> None:
        self.process = os.getpid()
        self.used = False
        """Whether a tool was called."""
        self.clean = True
        """Whether no call was given up: the server may still be at work on one."""
        self.listed: list[ListedTool] = []
        """The tools, as of the last listing."""
        self.protocol = ""
        """The version of the protocol that was agreed on."""
        self._noise = Noise()
        self._client = mcp.Client(open_transport(self._noise.file), mode="legacy" if legacy else "auto", cache=None)
        self._loop = background("mcp").loop
        self._stop = asyncio.Event()
        self._ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._ended = asyncio.run_coroutine_threadsafe(self._live(start_timeout), self._loop)
        _OPEN.add(self)
        try:
            self._ready.result()
        except BaseException as fault:
            self.close()
            if not isinstance(fault, Exception):
                raise  # Ctrl-C
            self.wait(10)
            words = self._noise.words()
            raise Unavailable(f"{cause(fault)}{f'; its last words: {words}' if words else ''}") from None

    async def _live(self, start_timeout: float) -> None:
        """Keep the session open until it is told to stop. The SDK ends the process, and those that it has started."""
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + start_timeout) as scope:
                async with self._client:
                    self._noise.file.close()  # the process has its own; without ours, its end can be noticed
                    await self._list()
                    self.protocol = self._client.protocol_version
                    scope.deadline = math.inf
                    self._ready.set_result(None)
                    await self._stop.wait()
            if scope.cancelled_caught and not self._ready.done():
                raise TimeoutError(f"no answer within {start_timeout:g} s")
        except BaseException as fault:  # also what anyio makes of a connection that broke
            if not self._ready.done():
                self._ready.set_exception(fault if isinstance(fault, Exception) else RuntimeError(cause(fault)))
        finally:
            self._noise.file.close()

    @property
    def alive(self) -> bool:
        """Whether the session is not known to be gone. A process that was forked off has none."""
        return not self._ended.done() and not self._stop.is_set() and self.process == os.getpid()

    def close(self) -> None:
        """End the session, and the process that was started for it; returns at once."""
        if not self._ended.done() and self.process == os.getpid():
            self._loop.call_soon_threadsafe(self._stop.set)

    def wait(self, seconds: float) -> None:
        """Wait until it has ended."""
        concurrent.futures.wait([self._ended], seconds)

    # ---------------------------------------------------------------- requests
    def list(self, timeout: float) -> bool:
        """Ask for the tools on offer; returns False, and ends the session, if there is no answer."""
        try:
            self._ask(self._list, timeout)
        except Exception:
            self.close()
            return False
        return True

    def call(self, name: str, arguments: Mapping[str, Any], timeout: float) -> ToolResult:
        """Call a tool.

        Raises:
            Unavailable: The session is gone.
            TimeoutError: There is no result in time.
            RuntimeError: The server breaks the protocol, or its own output schema.
        """
        self.used = True
        try:
            result = self._ask(lambda: self._client.call_tool(name, dict(arguments)), timeout)
        except MCPError as fault:
            return self._error(fault, timeout)
        except (concurrent.futures.CancelledError, Unavailable, anyio.ClosedResourceError, anyio.BrokenResourceError) as fault:
            self.close()
            raise Unavailable(f"the MCP server is gone{_words(self._noise)}") from fault
        except TimeoutError:
            self.clean = False
            raise
        except ValidationError as fault:
            raise RuntimeError(f"the MCP server breaks the protocol: {str(fault)[:300]}") from None
        assert isinstance(result, CallToolResult)
        return ToolResult(content_text(result), "rejected" if result.is_error else "")

    def _error(self, fault: MCPError, timeout: float) -> ToolResult:
        """Return the observation of what the server said is wrong; raise if the model has nothing to do with it."""
        if fault.code == REQUEST_TIMEOUT:
            self.clean = False
            raise TimeoutError(fault.message) from None
        if fault.code == INVALID_PARAMS:
            return ToolResult(f"Error: {fault.message}", "bad_arguments")
        if fault.code in (CONNECTION_CLOSED, *_BROKEN):
            if not self.list(timeout):  # the server is not there to say anything, or has forgotten this session
                raise Unavailable(f"the MCP server is gone: {fault.message}{_words(self._noise)}") from None
            if fault.code == CONNECTION_CLOSED or fault.message == "Server returned an error response":  # HTTP 5xx, or a lost answer
                self.clean = False
                return ToolResult(f"Error: the answer was lost: {fault.message}", "transient")
            raise RuntimeError(f"the MCP server answers with an error of its own: {fault.message}") from None
        return ToolResult(f"Error: {fault.message}", "rejected")

    def _ask(self, request: Callable[[], Awaitable[Any]], timeout: float) -> Any:
        if not self.alive:
            raise Unavailable("the session has ended")

        async def ask() -> Any:
            return await request()

        waiting = asyncio.run_coroutine_threadsafe(ask(), self._loop)
        # A request that waits when the session breaks down is never answered by the SDK.
        done, _ = concurrent.futures.wait([waiting, self._ended], timeout, concurrent.futures.FIRST_COMPLETED)
        if waiting in done:
            return waiting.result()
        if self._ended in done:
            done, _ = concurrent.futures.wait([waiting], 1.0)  # its answer may have come just before
            if done:
                return waiting.result()
        waiting.cancel()
        if self._ended.done():
            raise Unavailable("the session has ended")
        raise TimeoutError(f"no result within {timeout:g} s")

    async def _list(self) -> None:
        listed: list[ListedTool] = []
        cursor: str | None = None
        for _ in range(_PAGES):
            try:
                page = await self._client.list_tools(cursor=cursor)
            except ValidationError:
                page = await self._list_one_by_one(cursor)
            listed += page.tools
            cursor = page.next_cursor
            if not cursor:
                break
        self.listed = listed

    async def _list_one_by_one(self, cursor: str | None) -> ListToolsResult:
        """List the tools of a server one of which is no tool, which the SDK refuses as a whole."""
        session = self._client.session
        request = mcp.types.ListToolsRequest(params=PaginatedRequestParams(cursor=cursor)).model_dump(by_alias=True, mode="json", exclude_none=True)
        options: Any = {}
        session._stamp(request, options)
        raw = await session._dispatcher.send_raw_request(request["method"], request.get("params"), options)
        tools = []
        for one in raw.get("tools", ()):
            try:
                tools.append(ListedTool.model_validate(one, by_name=False))
            except ValidationError:
                name = str(one.get("name", "?")) if isinstance(one, dict) else "?"
                schema = one.get("inputSchema") if isinstance(one, dict) else None
                tools.append(ListedTool.model_construct(name=name, input_schema=schema, description=None))
        whole = [tool for tool in tools if isinstance(tool.input_schema, dict)]
        session._absorb_tool_listing(ListToolsResult(tools=whole), complete=False)  # else each call would list them again, and fail
        return ListToolsResult.model_construct(tools=tools, next_cursor=raw.get("nextCursor"))


_OPEN: weakref.WeakSet[Connection] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    open_ones = [one for one in _OPEN if one.alive]
    for one in open_ones:
        one.close()
    for one in open_ones:
        one.wait(5)


class Noise:
    """What a process writes to stderr: the last of it is kept, to be shown when it fails, and the rest is thrown away."""

    _KEPT = 1000

    def __init__(self) -> None:
        end, begin = os.pipe()
        self.file: TextIO = os.fdopen(begin, "w")
        """Where to write."""
        self._tail = b""
        self._reader = threading.Thread(target=self._read, args=(end,), daemon=True, name="steptool-mcp-noise")
        self._reader.start()

    def _read(self, end: int) -> None:
        while part := os.read(end, 65536):
            self._tail = (self._tail + part)[-self._KEPT :]
        os.close(end)

    def words(self) -> str:
        """Return the end of what was written, on one line."""
        self._reader.join(1)
        return " ".join(self._tail.decode("utf-8", "replace").split())


def _words(noise: Noise) -> str:
    words = noise.words()
    return f"; its last words: {words}" if words else ""


class _Brief(logging.Filter):
    """Lets few of the SDK's reports of a broken transport through, without tracebacks: it writes one for each line that is no message."""

    _MOST = 3

    def __init__(self) -> None:
        super().__init__()
        self._seen: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        if record.exc_info and record.exc_info[1] is not None:
            record.msg, record.args = f"{record.getMessage()}: {cause(record.exc_info[1]):.200}", ()
            record.exc_info = record.exc_text = None
        self._seen[record.funcName] += 1
        return self._seen[record.funcName] <= self._MOST


for _module in ("stdio", "sse", "streamable_http"):
    logging.getLogger(f"mcp.client.{_module}").addFilter(_Brief())
