"""Tools of an MCP server, through the official SDK: a process that is started (stdio), or an address (HTTP).

An episode has one session with the server from its first call to its last. It may be one that all episodes share (the default),
one that was cleared by a tool of the server (``reset=``), or a new one (``restart=``). A session that is lost takes what earlier
calls have left in the server along: the episode cannot go on, and its step is ``Unavailable``; the next one connects again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
import urllib.parse
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TextIO

from steptool_env.errors import InvalidArgument, MissingExtra, Unavailable, UnknownName
from steptool_env.jsontext import dumps
from steptool_env.tools.functions import LEGAL_NAME
from steptool_env.tools.secrets import Secrets, read_secret
from steptool_env.tools.tool import Tool
from steptool_env.tools.toolkit import FINISH, Toolkit
from steptool_env.types import ToolCall, ToolResult

if TYPE_CHECKING:
    from steptool_env.tools.mcp_connection import Connection

__all__ = ["McpSource"]

logger = logging.getLogger(__name__)


class McpSource:
    """The tools of one MCP server; make one, a ``toolkit()`` for every episode, and ``close`` it at the end.

    A tool that cannot be offered, such as one whose schema is none, is left out (``left_out``). One whose name models cannot write, or
    that is called ``finish``, is renamed (``renamed``). The log says both.

    Args:
        server: The command that starts the server, as a list, or the address of a running one.
        hosts: For an address: the hosts that may be called, ``host`` or ``host:port``. It must name the server's.
        tools: Names of the tools to offer, as the server has them; all by default.
        reset: A tool of the server that clears what an episode has left, or the call of one. It is made at the beginning of every
            episode, each of which then has a session that no other uses at the same time, and is not offered unless ``tools`` names it.
        restart: Whether every episode gets a session of its own: a new process, or a new session with the address.
        env: For a command: environment variables that the process gets beside a few harmless ones.
        cwd: For a command: the folder in which it starts.
        headers: For an address: header name -> name of the environment variable that holds its value. Erased from what comes back.
        token: For an address: the environment variable that holds a token, sent as ``Authorization: Bearer``.
        transport: For an address: ``"http"`` (streamable HTTP), or ``"sse"``, the older one of 2024.
        timeout: Seconds for one call.
        start_timeout: Seconds for starting the process or connecting, and listing the tools.
        concurrency: Most calls in flight.
        max_bytes: Longer results are cut.

    Raises:
        InvalidArgument: The host is not allowed, an argument does not go with the kind of server, or a variable is not set.
        MissingExtra: The package mcp is not installed.
        Unavailable: The server does not start, or does not answer; its process has been ended.
        UnknownName: ``tools`` or ``reset`` names one that the server does not have.
    """

    def __init__(
        self,
        server: Sequence[str] | str,
        *,
        hosts: Collection[str] = (),
        tools: Collection[str] | None = None,
        reset: str | ToolCall | None = None,
        restart: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        transport: Literal["http", "sse"] = "http",
        timeout: float = 30.0,
        start_timeout: float = 60.0,
        concurrency: int = 64,
        max_bytes: int = 1_000_000,
    ) -> None:
        try:
            from steptool_env.tools import mcp_connection, mcp_transports
        except ImportError as fault:
            raise MissingExtra("an MCP server as a source of tools", "mcp", "pip install 'steptool-env[mcp]'") from fault
        if reset is not None and restart:
            raise InvalidArgument("reset= and restart= are two ways to the same end; give one of them")
        self._secrets = Secrets([])
        self._open_transport: Callable[[TextIO], AbstractAsyncContextManager[Any]]
        if isinstance(server, str):
            parts = urllib.parse.urlsplit(server)
            if parts.hostname not in hosts and parts.netloc not in hosts:
                raise InvalidArgument(f"the host of {server!r} is not on the list of allowed hosts: {sorted(hosts)}")
            if env is not None or cwd is not None:
                raise InvalidArgument("env= and cwd= are for a server that is started; this one has an address")
            if transport not in mcp_transports.REMOTE:
                raise InvalidArgument(f"transport must be one of {', '.join(mcp_transports.REMOTE)}, got {transport!r}")
            sent = {name: _secret(variable, name) for name, variable in (headers or {}).items()}
            if token is not None:
                sent["Authorization"] = f"Bearer {_secret(token, 'Authorization')}"
            self._secrets = Secrets(sent.values())
            # An answer in an event is bounded by the SDK, too; binary parts are sent as text.
            self._open_transport = mcp_transports.REMOTE[transport](server, sent, 2 * max_bytes + 1_000_000)
        else:
            if headers or token is not None or transport != "http" or hosts:
                raise InvalidArgument("hosts=, headers=, token= and transport= are for a server with an address; this one is started")
            self._open_transport = mcp_transports.process(server, env, cwd)
        self.timeout, self.start_timeout, self.max_bytes = timeout, start_timeout, max_bytes
        self.left_out: dict[str, str] = {}
        """Name of a tool that is not on offer -> why."""
        self.renamed: dict[str, str] = {}
        """A tool's name -> the one under which it is on offer."""
        self.tools: dict[str, Tool] = {}
        """The tools on offer, as of the beginning of the last episode."""
        self.protocol = ""
        """The version of the protocol that was agreed on."""
        self._server, self._sse, self._chosen, self._restart = server, transport == "sse", None if tools is None else tuple(tools), restart
        self._reset = ToolCall(reset) if isinstance(reset, str) else reset
        self._connect = mcp_connection.Connection
        self._slots = threading.BoundedSemaphore(concurrency)
        self._lock = threading.Lock()
        self._closed = False
        self._free: list[Connection] = []
        """Sessions that no episode has: of a ``restart``, those that were never used; without ``reset`` and ``restart``, the one of all."""
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        weakref.finalize(self, _close, self._all).atexit = False
        first = self._new()
        self._free.append(first)
        self._check_names(first)
        self._offer(first)

    def toolkit(self) -> Toolkit:
        """Return the tools for one episode, as the server lists them now. Its state is the server's, so it cannot be copied.

        A server that is gone is connected to again. While that fails, the tools are those of the last episode, and their calls ``unavailable``.
        """
        episode = _Episode(self)
        with contextlib.suppress(Unavailable):
            self._offer(episode.connection())
        return Toolkit([*(replace(tool, function=_Call(episode, tool.function.name)) for tool in self.tools.values()), FINISH])  # type: ignore[attr-defined]

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a source of MCP tools holds sessions with its server, so it can be neither pickled nor copied; make one in every process")

    def close(self) -> None:
        """End all sessions, and the processes that were started for them; calls are ``unavailable`` from now on."""
        self._closed = True
        ending = list(self._all)
        _close(ending)
        for connection in ending:
            connection.wait(10)

    # ---------------------------------------------------------------- sessions
    @property
    def apart(self) -> tuple[list[Connection], bool] | None:
        """If each episode has a session of its own: where it goes at the end, and whether only if it was not used."""
        return (self._free, self._restart) if self._restart or self._reset is not None else None

    def _new(self) -> Connection:
        if self._closed:
            raise Unavailable("this source of tools was closed")
        try:
            connection = self._connect(self._open_transport, legacy=self._sse, start_timeout=self.start_timeout)
        except Unavailable as fault:
            raise Unavailable(self._scrub(f"the MCP server {self._server!r} does not answer: {fault}")) from None
        self._all.add(connection)
        return connection

    def take(self) -> Connection:
        """Return the session of an episode that begins; raises ``Unavailable``."""
        if self.apart:
            while True:
                with self._lock:
                    connection = self._free.pop() if self._free else None
                if connection is None:
                    connection = self._new()
                    break
                if connection.alive and (connection.list(self.timeout) if self._reset else not connection.used):
                    break
                connection.close()
            if self._reset is not None:
                self._clear(connection, self._reset)
            return connection
        found = self._free[0]
        if found.list(self.timeout):
            return found
        with self._lock:  # whoever has waited here finds the session that another one opened
            if self._free[0] is found:
                self._free[0] = self._new()
            return self._free[0]

    def _clear(self, connection: Connection, reset: ToolCall) -> None:
        try:
            result = connection.call(reset.name, reset.arguments, self.timeout)
        except (RuntimeError, TimeoutError) as fault:
            connection.close()
            raise Unavailable(f"the tool {reset.name!r}, which is to reset the server, failed: {self._scrub(str(fault))}") from None
        if result.error:
            connection.close()
            raise Unavailable(f"the tool {reset.name!r}, which is to reset the server, failed: {self._scrub(result.content)[:500]}")

    # ---------------------------------------------------------------- tools
    def _check_names(self, connection: Connection) -> None:
        """Raise if a name that the user gave is none of the server's, or one whose tool cannot be offered."""
        found, faults, _ = _read(connection.listed, self._scrub)
        for name in (*(self._chosen or ()), *(() if self._reset is None else (self._reset.name,))):
            if name not in found:
                if name in faults:
                    raise InvalidArgument(f"the tool {name!r} of the MCP server cannot be offered: {faults[name]}")
                raise UnknownName("tool of the MCP server", name, found)
        if self._reset is not None and (fault := found[self._reset.name].check(self._reset.arguments)):
            raise InvalidArgument(f"reset={self._reset.name!r}: wrong arguments: {fault}; pass ToolCall(name, arguments)")

    def _offer(self, connection: Connection) -> None:
        found, faults, renamed = _read(connection.listed, self._scrub)
        names = self._chosen if self._chosen is not None else [name for name in found if self._reset is None or name != self._reset.name]
        left_out = {name: fault for name, fault in faults.items() if self._chosen is None or name in self._chosen}
        left_out |= {name: "the server does not list it any more" for name in names if name not in found and name not in left_out}
        renamed = {name: new for name, new in renamed.items() if name in names}
        for name, fault in left_out.items():
            if name not in self.left_out:
                logger.warning("the tool %r of the MCP server is left out: %s", name, fault)
        for name, new in renamed.items():
            if name not in self.renamed:
                logger.warning("the tool %r of the MCP server is offered as %r", name, new)
        self.tools = {found[name].name: found[name] for name in names if name in found}
        self.left_out, self.renamed, self.protocol = left_out, renamed, connection.protocol

    def call(self, connection: Connection, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Call a tool; raises ``Unavailable``, ``TimeoutError``, or ``RuntimeError`` for what the server's author got wrong."""
        with self._slots:
            try:
                result = connection.call(name, arguments, self.timeout)
            except (Unavailable, TimeoutError, RuntimeError) as fault:
                kind = next(kind for kind in (Unavailable, TimeoutError, RuntimeError) if isinstance(fault, kind))
                raise kind(self._scrub(str(fault))) from None
        text = self._scrub(result.content)
        if len(text) > self.max_bytes:
            text = f"{text[: self.max_bytes]} … [cut]"
        return ToolResult(text, result.error)

    def _scrub(self, text: str) -> str:
        return self._secrets.scrub(text)


class _Episode:
    """What the tools of one episode share: its session."""

    def __init__(self, source: McpSource) -> None:
        self.source = source
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def connection(self) -> Connection:
        """Return the session; raises ``Unavailable`` if there is none to be had, or if it was lost."""
        with self._lock:
            if self._connection is None:
                self._connection = self.source.take()
                if self.source.apart:
                    weakref.finalize(self, _give_back, self._connection, *self.source.apart).atexit = False
            return self._connection

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Call a tool of the server."""
        connection = self.connection()
        if not connection.alive:
            raise Unavailable("the MCP server was lost in the middle of the episode, and with it what earlier calls have left in it")
        return self.source.call(connection, name, arguments)


class _Call:
    """The function of one tool in one episode."""

    def __init__(self, episode: _Episode | None, name: str) -> None:
        self.episode, self.name = episode, name

    def __call__(self, /, **arguments: Any) -> ToolResult:
        assert self.episode is not None
        return self.episode.call(self.name, arguments)


def _give_back(connection: Connection, free: list[Connection], restart: bool) -> None:
    if connection.alive and connection.clean and not (restart and connection.used):
        free.append(connection)
    else:
        connection.close()


def _close(connections: Iterable[Connection]) -> None:
    for connection in list(connections):
        connection.close()


def _secret(variable: str, header: str) -> str:
    secret = read_secret(variable, header)
    if not secret:
        raise InvalidArgument(f"the environment variable {variable}, which is to be sent as {header!r}, is not set")
    return secret


def _read(listed: Iterable[Any], scrub: Callable[[str], str]) -> tuple[dict[str, Tool], dict[str, str], dict[str, str]]:
    """Return the tools that can be offered, why the others cannot, and the new names of some; all by the server's names."""
    names = [str(one.name) for one in listed]
    taken = {name for name in names if LEGAL_NAME.fullmatch(name) and name != "finish"} | {"finish"}
    tools: dict[str, Tool] = {}
    faults: dict[str, str] = {}
    renamed: dict[str, str] = {}
    for name, one in zip(names, listed, strict=True):
        if name in tools:
            faults[name] = "the server lists it twice; the first is offered"
            continue
        new = name
        if name == "finish" or not LEGAL_NAME.fullmatch(name):
            new = _legal(name, taken)
            taken.add(new)
        if not isinstance(one.input_schema, dict) or one.input_schema.get("type", "object") != "object":
            faults[name] = f"its parameters must be a JSON schema of type 'object', got {one.input_schema!r:.200}"
            continue
        try:
            schema = {"properties": {}, **json.loads(scrub(dumps(one.input_schema))), "type": "object"}
            tools[name] = Tool(new, scrub(one.description or ""), schema, _Call(None, name), waits=True)
        except (ValueError, RecursionError) as fault:  # InvalidArgument of the tool, or what JSON cannot hold
            faults[name] = str(fault)
            continue
        if new != name:
            renamed[name] = new
    return tools, faults, renamed


def _legal(name: str, taken: Collection[str]) -> str:
    base = "finish_on_server" if name == "finish" else re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:60] or "tool"
    return next(new for new in (base, *(f"{base}_{number}" for number in range(2, len(taken) + 3))) if new not in taken)
