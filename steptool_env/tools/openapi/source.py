"""``OpenApiSource``: the operations of an OpenAPI 3 document as tools.

Parameters become arguments of the same name; the properties of a body become arguments beside them, or one argument ``body``
where they would collide or the body is no plain object. An operation that cannot be offered whole is left out, with its reason
in ``left_out``; the others are offered. Credentials come from the environment (``auth``) and are never shown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steptool_env.errors import InvalidArgument, Unavailable, UnknownName
from steptool_env.tools.http import HttpClient, NotAllowed, Passing, fault_of_status
from steptool_env.tools.openapi.credentials import carriers, read_credentials
from steptool_env.tools.openapi.document import Document, Unusable
from steptool_env.tools.openapi.operations import Entry, Reader, entries
from steptool_env.tools.openapi.requests import Operation
from steptool_env.tools.openapi.servers import server_address
from steptool_env.tools.openapi.styles import quoted
from steptool_env.tools.tool import Tool
from steptool_env.tools.toolkit import FINISH, Toolkit
from steptool_env.types import ToolResult

__all__ = ["OpenApiSource"]


class OpenApiSource:
    """The operations of a document as tools; make one, and a ``toolkit()`` for every episode.

    Args:
        document: The path of the document, or the document as JSON gives it (``read_document``). Only with a path does it
            find the files beside it that it refers to.
        client: What sends the requests: its host list must hold the server's host.
        server: Base address; the document's first server by default. Paths and operations that have servers of their own keep them.
        operations: Names of the tools to offer, or their ``operationId``; all by default. The others are not even looked at.
        auth: Name of a security scheme of the document -> environment variable with the key, the token, or ``user:password``.
        forbidden: Which answers with HTTP status 403 are the model's mistake, because it asked for what it may not have: names
            of tools, or a function of a tool's name and the text of the answer. All others mean that the credentials are
            wrong, and are ``unavailable``, as 401 always is.
        timeout: Seconds for a call with all its attempts, before it is given up.

    Raises:
        InvalidArgument: The document is not OpenAPI 3, nothing of it can be offered, or ``auth`` does not fit it.
        UnknownName: ``operations`` names something that the document does not have.
    """

    def __init__(
        self,
        document: Mapping[str, Any] | str | Path,
        client: HttpClient,
        *,
        server: str | None = None,
        operations: Collection[str] | None = None,
        auth: Mapping[str, str] | None = None,
        forbidden: Collection[str] | Callable[[str, str], bool] = (),
        timeout: float | None = 60.0,
    ) -> None:
        opened = Document(document)
        self.client, self.document, self.timeout = client, opened.root, timeout
        self._credentials = read_credentials(opened, auth or {})
        client.hide(self._credentials.secrets)  # those that stand in the query, too
        self._forbidden = forbidden if callable(forbidden) else frozenset(forbidden)
        problem = ""
        try:
            self.server = server_address([{"url": server}] if server else opened.root.get("servers"))
        except Unusable as fault:
            self.server, problem = "", str(fault)
            if server:
                raise InvalidArgument(problem) from None
        hidden = carriers(opened) | {("header", name.lower()) for name in (*client.headers, *self._credentials.headers)}
        reader = Reader(opened, self.server, problem, hidden)
        self.tools: dict[str, Tool] = {}
        self.left_out: dict[str, str] = {}
        """Name of an operation that is not offered -> the reason."""
        self._hosts: dict[str, str] = {}
        for entry in _chosen(entries(opened, ["finish"]), operations):
            try:
                self.tools[entry.name] = self._tool(entry, reader)
            except Unusable as fault:
                self.left_out[entry.name] = str(fault)
            except Exception as fault:  # a document may be broken in any way; what can be read of it is offered
                self.left_out[entry.name] = f"the document is broken here: {type(fault).__name__}: {str(fault)[:300]}"
        if self.left_out and (operations is not None or not self.tools):
            reasons = "; ".join(f"{name}: {reason}" for name, reason in list(self.left_out.items())[:3])
            raise InvalidArgument(f"{'these operations' if self.tools else 'none of the operations'} cannot be offered: {reasons}")
        if not self.tools:
            raise InvalidArgument("the document has no operation")

    def toolkit(self) -> Toolkit:
        """Return the tools for one episode. The state is the server's, so it cannot be copied."""
        return Toolkit([*self.tools.values(), FINISH])

    def _tool(self, entry: Entry, reader: Reader) -> Tool:
        operation, schema = reader.read(entry)
        if operation.server not in self._hosts:
            try:
                self.client.check(operation.server)
                self._hosts[operation.server] = ""
            except NotAllowed as fault:
                self._hosts[operation.server] = str(fault)
        if reason := self._hosts[operation.server]:
            raise Unusable(reason)
        about = " ".join(str(entry.node.get(key) or "") for key in ("summary", "description")).strip()
        return Tool(entry.name, about, schema, _Call(self, entry.name, operation), timeout=self.timeout)

    # ---------------------------------------------------------------- one call
    def call(self, name: str, operation: Operation, arguments: Mapping[str, Any]) -> ToolResult:
        """Send one call.

        Raises:
            BadArguments: The arguments have no form in a request.
            Unavailable: The server cannot be reached, or does not take the credentials.
        """
        address, headers, content = operation.request(arguments)
        credentials = self._credentials
        if credentials.query:
            keys = "&".join(f"{quoted(key)}={quoted(value)}" for key, value in credentials.query.items())
            address += f"{'&' if '?' in address else '?'}{keys}"
        try:
            answer = self.client.send(operation.method, address, content=content, headers={**headers, **credentials.headers})
        except Passing as fault:
            return ToolResult(f"Error: {fault!s}", "transient")
        except (NotAllowed, Unavailable) as fault:
            raise Unavailable(str(fault)) from None
        text = answer.text + (" … [cut]" if answer.truncated else "")
        error = "rejected" if answer.status == 403 and self._asked_for(name, text) else fault_of_status(answer.status)
        if error == "unavailable":
            raise Unavailable(f"HTTP status {answer.status}: {text[:200]}")
        return ToolResult(f"Error: HTTP status {answer.status}: {text}" if error else text, error)

    def _asked_for(self, name: str, text: str) -> bool:
        return bool(self._forbidden(name, text)) if callable(self._forbidden) else name in self._forbidden


@dataclass(frozen=True)
class _Call:
    """The function of one tool."""

    source: OpenApiSource
    name: str
    operation: Operation

    def __call__(self, /, **arguments: Any) -> ToolResult:
        return self.source.call(self.name, self.operation, arguments)


def _chosen(found: list[Entry], operations: Collection[str] | None) -> list[Entry]:
    """Return the entries that are asked for, in the order in which they are."""
    if operations is None:
        return found
    known = {str(entry.node.get("operationId")): entry for entry in reversed(found) if isinstance(entry.node, Mapping)}
    known |= {entry.name: entry for entry in found}
    for name in operations:
        if name not in known:
            raise UnknownName("operation", name, (entry.name for entry in found))
    return [known[name] for name in dict.fromkeys(operations)]
