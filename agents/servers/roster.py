"""``Roster``: which model servers there are. The list may stand in a file that changes while a run goes on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steptool_env.errors import InvalidArgument

from .client import ChatClient

__all__ = ["Roster"]

logger = logging.getLogger(__name__)


class Roster:
    """The endpoints of model servers, and a client for each.

    Args:
        servers: Clients; or endpoints such as ``http://a:8000/v1``, separated by commas; or a file with one endpoint a line, which is
            read again each time: a line that is added is a server that is added. Empty lines and lines that begin with ``#`` do not count.
        options: Keywords of the clients that are made, see ``ChatClient``.

    Raises:
        InvalidArgument: There is no endpoint, or one is no valid address.
    """

    def __init__(self, servers: str | Sequence[ChatClient], **options: Any) -> None:
        self._options = options
        self._clients = {} if isinstance(servers, str) else {client.endpoint: client for client in servers}
        self._listed = list(self._clients)
        self._file: Path | None = None
        if isinstance(servers, str):
            if "://" in servers:
                self._listed = [name for part in servers.split(",") if (name := part.strip())]
            else:
                self._file = Path(servers)
                self._listed = self._read(self._file)
        if not self._listed:
            raise InvalidArgument(f"expected at least one server, got none in {servers!r}")
        for endpoint in self._listed:
            self.client(endpoint)

    def client(self, endpoint: str, *, patient: bool = True) -> ChatClient:
        """Return the client of an endpoint, listed or not; or one that asks only once, to find out whether anybody is there."""
        if not patient:
            return ChatClient(endpoint, **{**self._options, "attempts": 1})
        if endpoint not in self._clients:
            self._clients[endpoint] = ChatClient(endpoint, **self._options)
        return self._clients[endpoint]

    def clients(self) -> list[ChatClient]:
        """Return the clients of the servers that there are now; if their file cannot be read, or lists nothing valid, of those before."""
        if self._file is not None:
            try:
                listed = self._read(self._file)
                for endpoint in listed:
                    self.client(endpoint)
                self._listed = listed or self._listed
            except InvalidArgument as fault:
                logger.warning("the list of servers stays as it was: %s", fault)
        return [self.client(endpoint) for endpoint in self._listed]

    @staticmethod
    def _read(file: Path) -> list[str]:
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as fault:
            raise InvalidArgument(f"servers takes endpoints such as http://a:8000/v1 or a file of them; {str(file)!r} cannot be read: {fault}") from None
        return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
