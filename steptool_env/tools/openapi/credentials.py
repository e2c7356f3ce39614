"""The credentials of an API: read from the environment, sent with every call, never an argument, never shown."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.tools.openapi.document import Document, Unusable
from steptool_env.tools.secrets import read_secret

__all__ = ["Credentials", "carriers", "read_credentials"]


@dataclass(frozen=True)
class Credentials:
    """What is sent beside the arguments of a call."""

    headers: Mapping[str, str]
    query: Mapping[str, str]
    secrets: tuple[str, ...]
    """What must not come back in a text."""


def _schemes(document: Document) -> dict[str, Mapping[str, Any]]:
    """The security schemes that can be read, by name."""
    components = document.root.get("components")
    listed = components.get("securitySchemes") if isinstance(components, Mapping) else None
    found = {}
    for name, node in listed.items() if isinstance(listed, Mapping) else ():
        try:
            found[name] = document.object(node, "", "a security scheme")[0]
        except Unusable:
            continue
    return found


def carriers(document: Document) -> set[tuple[str, str]]:
    """Return the places and lower-case names of all parameters that carry the keys of the document's security schemes."""
    keys = [scheme for scheme in _schemes(document).values() if scheme.get("type") == "apiKey"]
    return {(str(scheme.get("in")), str(scheme.get("name")).lower()) for scheme in keys}


def read_credentials(document: Document, auth: Mapping[str, str]) -> Credentials:
    """Return the credentials for the security schemes that ``auth`` names.

    Args:
        document: The document.
        auth: Name of a security scheme -> environment variable with the key, the token, or ``user:password``.

    Raises:
        UnknownName: The document has no such scheme.
        InvalidArgument: The variable is not set, or a scheme of this kind cannot be used.
    """
    schemes = _schemes(document)
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    secrets: list[str] = []
    for name, variable in auth.items():
        if name not in schemes:
            raise UnknownName("security scheme", name, schemes)
        scheme = schemes[name]
        kind = (scheme.get("type"), str(scheme.get("in", scheme.get("scheme", ""))).lower())
        secret = os.environ.get(variable, "").strip() if kind in (("apiKey", "query"), ("http", "basic")) else read_secret(variable, name)
        if not secret:
            raise InvalidArgument(f"the environment variable {variable!r}, for the security scheme {name!r}, is not set")
        secrets.append(secret)
        if kind == ("apiKey", "header"):
            headers[scheme["name"]] = secret
        elif kind == ("apiKey", "query"):
            query[scheme["name"]] = secret
        elif kind == ("apiKey", "cookie"):
            headers["Cookie"] = "; ".join(filter(None, [headers.get("Cookie"), f"{scheme['name']}={secret}"]))
        elif kind == ("http", "basic"):
            packed = base64.b64encode(secret.encode()).decode()
            headers["Authorization"] = f"Basic {packed}"
            secrets += [packed, secret.partition(":")[2]]
        elif kind == ("http", "bearer") or scheme.get("type") in ("oauth2", "openIdConnect"):
            headers["Authorization"] = f"Bearer {secret}"
        else:
            raise InvalidArgument(f"the security scheme {name!r} of kind {kind} is not supported; keys in headers, queries and cookies, basic and bearer are")
    return Credentials(headers, query, tuple(sorted(filter(None, set(secrets)), key=len, reverse=True)))
