"""What an OpenAPI document made of a call, as a server sees it: one that echoes, and readers of RFC 6570's forms that know nothing of the writer."""

from __future__ import annotations

import email
import email.policy
import json
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from servers import Reply, Request, serving

from steptool_env import ToolCall, ToolResult
from steptool_env.tools.http import HttpClient
from steptool_env.tools.openapi import OpenApiSource

__all__ = ["Sent", "echo", "echoing", "exploded", "listed", "read_deep", "read_multipart", "read_query"]


class Sent:
    """A request as it arrived."""

    def __init__(self, text: str) -> None:
        parts = json.loads(text)
        self.method: str = parts["method"]
        self.target: str = parts["target"]
        self.path, _, self.query = self.target.partition("?")
        self.headers: dict[str, str] = parts["headers"]
        self.body: str = parts["body"]

    def __repr__(self) -> str:
        return f"{self.method} {self.target} {self.headers} {self.body!r}"


def echo(request: Request) -> Reply:
    """Answer with the request."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    return 200, {}, json.dumps({"method": request.method, "target": request.path, "headers": headers, "body": request.body})


@contextmanager
def echoing() -> Iterator[Callable[..., ToolResult | Sent]]:
    """Yield a function that calls a tool of a document: ``call(document, name, arguments)``.

    It returns what arrived, or the result if nothing was sent. The document's tools must be offered, all of them.
    """
    with serving(echo) as here:
        client = HttpClient([here], attempts=1, timeout=60.0, max_bytes=10_000_000)

        def call(document: Mapping[str, Any], name: str, arguments: Mapping[str, Any]) -> ToolResult | Sent:
            source = OpenApiSource(document, client, server=f"http://{here}/base")
            assert not source.left_out, source.left_out
            toolkit = source.toolkit()
            toolkit.max_result_chars = 10_000_000
            result = toolkit.execute(ToolCall(name, arguments))
            if result.error:
                return result
            sent = Sent(result.content)
            assert sent.headers["host"] == here
            return sent

        yield call
        client.close()


# ---------------------------------------------------------------- readers
def listed(text: str, divider: str = ",") -> list[str]:
    """The items of a list that signs divide, decoded after they are divided."""
    return [urllib.parse.unquote(item, errors="strict") for item in text.split(divider)]


def exploded(text: str, divider: str) -> dict[str, str]:
    """An object of ``key=value`` that signs divide."""
    return {urllib.parse.unquote(key): urllib.parse.unquote(value) for key, _, value in (pair.partition("=") for pair in text.split(divider))}


def read_query(text: str) -> list[tuple[str, str]]:
    """The decoded pairs of a query or of a form."""
    return urllib.parse.parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict")


def read_deep(pairs: list[tuple[str, str]], name: str) -> Any:
    """The object that pairs such as ``name[a][b]=1`` spell; all values are texts, lists are objects with numbers."""
    root: dict[str, Any] = {}
    for key, value in pairs:
        if not key.startswith(f"{name}["):
            continue
        path = key.removeprefix(name).removeprefix("[").removesuffix("]").split("][")
        node = root
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = value
    return root


def read_multipart(sent: Sent) -> list[tuple[str, str, str]]:
    """Name, content type and text of every part, as Python's reader of mails has them."""
    text = f"Content-Type: {sent.headers['content-type']}\r\n\r\n{sent.body}"
    message = email.message_from_bytes(text.encode(), policy=email.policy.HTTP)
    parts = []
    for part in message.iter_parts():  # type: ignore[attr-defined]
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        stated = part.get_content_type() if "Content-Type" in part else ""
        parts.append((str(part.get_param("name", header="Content-Disposition")), stated, content.decode()))
    return parts
