"""Tools from an OpenAPI 3 document: each operation is a tool, its schema derived, its calls sent over HTTP.

Path, query and header parameters become arguments of the same name; the properties of a JSON body become arguments beside
them, or one argument ``body`` where they would collide or the body is not an object. Cookies, files and bodies other than
JSON are not covered: such operations are left out. Credentials come from the environment (``auth``) and are never shown.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import urllib.parse
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steptool_env.errors import DataError, InvalidArgument, Unavailable, UnknownName
from steptool_env.tools.http import HttpClient, NotAllowed
from steptool_env.tools.tool import Tool
from steptool_env.tools.toolkit import FINISH, Toolkit
from steptool_env.types import ToolResult

__all__ = ["OpenApiSource", "read_document"]

_METHODS = ("get", "put", "post", "delete", "patch")
_DEPTH = 12
"""How deep a schema is followed; what lies deeper, or refers to itself, is any value."""


def read_document(path: str | Path) -> dict[str, Any]:
    """Read a document in JSON (or in YAML, where PyYAML is installed); raises ``DataError``."""
    text = Path(path).read_text(encoding="utf-8")
    try:
        if text.lstrip().startswith("{"):
            document = json.loads(text)
        else:
            import yaml

            document = yaml.safe_load(text)
    except ImportError as fault:
        raise InvalidArgument(f"{str(path)!r} is not JSON; to read YAML: pip install pyyaml") from fault
    except Exception as fault:
        raise DataError(path, getattr(fault, "lineno", 1), f"neither JSON nor YAML: {str(fault).splitlines()[0]}") from fault
    if not isinstance(document, dict):
        raise DataError(path, 1, f"expected an object, got {type(document).__name__}")
    return document


@dataclass(frozen=True)
class _Operation:
    """How the arguments of one tool become a request."""

    method: str
    path: str
    places: Mapping[str, str]
    """Argument -> ``path``, ``query``, ``header``, ``body`` (a property of it) or ``whole`` (the body itself)."""


class OpenApiSource:
    """The operations of a document as tools; make one, and a ``toolkit()`` for every episode.

    Args:
        document: The document, as JSON gives it (``read_document``).
        client: What sends the requests: its host list must hold the server's host.
        server: Base address; the document's first server by default.
        operations: Names of the tools to offer; all by default.
        auth: Name of a security scheme of the document -> environment variable with the key, the token, or ``user:password``.
        timeout: Seconds for a call with all its attempts, before it is an observation ``timeout``.

    Raises:
        InvalidArgument: The document is not OpenAPI 3, offers nothing that can be called, or ``auth`` does not fit it.
        UnknownName: ``operations`` names something that the document does not have.
    """

    def __init__(
        self,
        document: Mapping[str, Any],
        client: HttpClient,
        *,
        server: str | None = None,
        operations: Collection[str] | None = None,
        auth: Mapping[str, str] | None = None,
        timeout: float | None = 60.0,
    ) -> None:
        if not str(document.get("openapi", "")).startswith("3.") or not isinstance(document.get("paths"), Mapping):
            raise InvalidArgument(f"an OpenAPI 3 document is expected, with openapi: 3.x and paths; got openapi: {document.get('openapi')!r}")
        servers = document.get("servers") or [{}]
        self.server = (server or str(servers[0].get("url", ""))).rstrip("/")
        if not re.match(r"https?://", self.server):
            raise InvalidArgument(f"the server must be an http(s) address, got {self.server!r}; give server=")
        self.client, self.document, self.timeout = client, document, timeout
        self._headers, self._query = self._credentials(auth or {})
        self.tools: dict[str, Tool] = {}
        for path, item in document["paths"].items():
            for method in _METHODS:
                if isinstance(item, Mapping) and isinstance(operation := item.get(method), Mapping):
                    self._add(method, path, item, operation)
        if operations is not None:
            for name in operations:
                if name not in self.tools:
                    raise UnknownName("operation", name, self.tools)
            self.tools = {name: self.tools[name] for name in operations}
        if not self.tools:
            raise InvalidArgument("the document has no operation that can be called with JSON")

    def toolkit(self) -> Toolkit:
        """Return the tools for one episode. The state is the server's, so it cannot be copied."""
        return Toolkit([*self.tools.values(), FINISH])

    # ---------------------------------------------------------------- reading the document
    def _add(self, method: str, path: str, item: Mapping[str, Any], operation: Mapping[str, Any]) -> None:
        properties: dict[str, Any] = {}
        required: list[str] = []
        places: dict[str, str] = {}
        parameters = {}
        for parameter in (*item.get("parameters", ()), *operation.get("parameters", ())):  # the operation's own override the path's
            parameter = self._resolved(parameter)
            parameters[parameter["name"], parameter["in"]] = parameter
        for (name, place), parameter in parameters.items():
            if place == "cookie" or name in properties:
                if parameter.get("required"):
                    return
                continue
            schema = self._schema(parameter.get("schema") or next(iter(parameter.get("content", {"": {}}).values())).get("schema", {}))
            if parameter.get("description"):
                schema["description"] = parameter["description"]
            properties[name], places[name] = schema, place
            if parameter.get("required") or place == "path":
                required.append(name)
        body = self._resolved(operation.get("requestBody") or {})
        if body:
            content = next((media for kind, media in body.get("content", {}).items() if "json" in kind), None)
            if content is None:
                if body.get("required"):
                    return
            else:
                self._add_body(self._schema(content.get("schema", {})), bool(body.get("required")), properties, required, places)
        name = re.sub(r"[^\w-]+", "_", str(operation.get("operationId") or f"{method}_{path}")).strip("_")[:64]
        if name in self.tools or name == "finish":
            name = f"{name[:60]}_{len(self.tools)}"
        about = " ".join(str(operation.get(key, "")) for key in ("summary", "description")).strip()
        schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        self.tools[name] = Tool(name, about, schema, _Call(self, _Operation(method, path, places)), timeout=self.timeout)

    def _add_body(self, schema: dict[str, Any], needed: bool, properties: dict[str, Any], required: list[str], places: dict[str, str]) -> None:
        inner = schema.get("properties")
        if schema.get("type") == "object" and inner and not set(inner) & set(properties) and not {"oneOf", "anyOf", "allOf"} & set(schema):
            properties.update(inner)
            places.update(dict.fromkeys(inner, "body"))
            if needed:
                required += [name for name in schema.get("required", ()) if name in inner]
            return
        name = "body" if "body" not in properties else "request_body"
        properties[name], places[name] = schema, "whole"
        if needed:
            required.append(name)

    def _resolved(self, node: Any, depth: int = 0) -> Any:
        if isinstance(node, Mapping) and isinstance(reference := node.get("$ref"), str):
            if not reference.startswith("#/") or depth > _DEPTH:
                raise InvalidArgument(f"only references within the document are followed, got {reference!r}")
            target: Any = self.document
            for part in reference[2:].split("/"):
                part = urllib.parse.unquote(part).replace("~1", "/").replace("~0", "~")
                if not isinstance(target, Mapping) or part not in target:
                    raise InvalidArgument(f"the reference {reference!r} leads nowhere")
                target = target[part]
            return self._resolved(target, depth + 1)
        return node

    def _schema(self, node: Any, depth: int = 0) -> dict[str, Any]:
        """Return a schema without references; OpenAPI 3.0's ``nullable`` becomes what JSON Schema says."""
        node = self._resolved(node)
        if not isinstance(node, Mapping) or depth > _DEPTH:
            return {}
        schema: dict[str, Any] = {}
        for key, value in node.items():
            if key in ("type", "enum", "const", "required", "minimum", "maximum", "minLength", "maxLength", "pattern", "minItems", "maxItems", "default"):
                schema[key] = copy.deepcopy(value)
            elif key in ("description", "format"):
                schema[key] = str(value)
            elif key == "properties":
                schema[key] = {name: self._schema(inner, depth + 1) for name, inner in value.items()}
            elif key == "items" or (key == "additionalProperties" and isinstance(value, Mapping)):
                schema[key] = self._schema(value, depth + 1)
            elif key in ("oneOf", "anyOf", "allOf"):
                schema[key] = [self._schema(inner, depth + 1) for inner in value]
            elif key == "additionalProperties":
                schema[key] = bool(value)
        if node.get("nullable") and isinstance(schema.get("type"), str):
            schema["type"] = [schema["type"], "null"]
        return schema

    def _credentials(self, auth: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        schemes = (self.document.get("components") or {}).get("securitySchemes") or {}
        headers: dict[str, str] = {}
        query: dict[str, str] = {}
        for name, variable in auth.items():
            if name not in schemes:
                raise UnknownName("security scheme", name, schemes)
            scheme, secret = self._resolved(schemes[name]), os.environ.get(variable, "").strip()
            if not secret:
                raise InvalidArgument(f"the environment variable {variable!r}, for the security scheme {name!r}, is not set")
            kind = (scheme.get("type"), str(scheme.get("in", scheme.get("scheme", ""))).lower())
            if kind == ("apiKey", "header"):
                headers[scheme["name"]] = secret
            elif kind == ("apiKey", "query"):
                query[scheme["name"]] = secret
            elif kind == ("http", "basic"):
                headers["Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
            elif kind == ("http", "bearer") or scheme.get("type") in ("oauth2", "openIdConnect"):
                headers["Authorization"] = f"Bearer {secret}"
            else:
                raise InvalidArgument(f"the security scheme {name!r} of kind {kind} is not supported; header, query, basic and bearer are")
        self._secrets = [*query.values(), *(value.partition(" ")[2] or value for value in headers.values())]
        return headers, query

    # ---------------------------------------------------------------- one call
    def call(self, operation: _Operation, arguments: Mapping[str, Any]) -> ToolResult:
        """Send one call. Statuses from 400 are ``tool_failed``; 401 and 403 are ``Unavailable``: keys are not the model's."""
        path, headers, body = operation.path, dict(self._headers), {}
        query: list[tuple[str, str]] = list(self._query.items())
        whole: Any = None
        for name, value in arguments.items():
            place = operation.places[name]
            if place == "path":
                path = path.replace("{" + name + "}", urllib.parse.quote(_flat(value), safe=""))
            elif place == "query":
                query += [(name, _flat(item)) for item in (value if isinstance(value, list) else [value])]
            elif place == "header":
                headers[name] = re.sub(r"[^\x20-\x7e]", "", _flat(value))
            elif place == "whole":
                whole = value
            else:
                body[name] = value
        address = f"{self.server}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        try:
            answer = self.client.send(operation.method, address, json=whole if whole is not None else (body or None), headers=headers)
        except NotAllowed as fault:
            raise Unavailable(self._scrub(str(fault))) from None
        except Unavailable as fault:
            raise Unavailable(self._scrub(str(fault))) from None
        text = self._scrub(answer.text) + (" … [cut]" if answer.truncated else "")
        if answer.status in (401, 403):
            raise Unavailable(f"HTTP status {answer.status}: {text[:200]}")
        return ToolResult(text if answer.status < 400 else f"Error: HTTP status {answer.status}: {text}", "tool_failed" if answer.status >= 400 else "")

    def _scrub(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


@dataclass(frozen=True)
class _Call:
    """The function of one tool."""

    source: OpenApiSource
    operation: _Operation

    def __call__(self, /, **arguments: Any) -> ToolResult:
        return self.source.call(self.operation, arguments)


def _flat(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


