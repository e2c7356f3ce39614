"""The addresses that requests go to: ``servers`` of a document, a path or an operation, with the defaults of their variables."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

from steptool_env.tools.openapi.document import Unusable

__all__ = ["server_address"]


def server_address(servers: Any, base: str = "") -> str:
    """Return the address of the first server, without the slash at its end.

    Args:
        servers: What the document says; nothing means ``/``.
        base: What a relative address is relative to; empty if that is not known.

    Raises:
        Unusable: A variable has no default, or the address is none.
    """
    first = servers[0] if isinstance(servers, list) and servers else {"url": "/"}
    if not isinstance(first, Mapping) or not isinstance(first.get("url"), str):
        raise Unusable(f"its server must be an object with a url, got {first!r}")
    variables = first.get("variables")

    def default(match: re.Match[str]) -> str:
        about = variables.get(match[1]) if isinstance(variables, Mapping) else None
        if not isinstance(about, Mapping) or "default" not in about:
            raise Unusable(f"the server {first['url']!r} has no default for {match[0]}; give server=")
        return str(about["default"])

    address = re.sub(r"\{([^{}]*)\}", default, first["url"])
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", address):
        if not base:
            raise Unusable(f"the server must be an http(s) address, got {address!r}; give server=")
        address = urllib.parse.urljoin(f"{base}/", address)
    if not re.match(r"https?://[^/?#]", address) or {"?", "#"} & set(address):
        raise Unusable(f"the server must be an http(s) address without a query, got {address!r}; give server=")
    return address.rstrip("/")
