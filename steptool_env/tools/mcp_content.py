"""The result of an MCP tool as the text that a model reads."""

from __future__ import annotations

import json
from typing import Any

from steptool_env.tools.serialization import as_text

__all__ = ["content_text"]


def content_text(result: Any) -> str:
    """Return what an ``mcp`` ``CallToolResult`` says: its texts, the text and the address of resources, the address of links, of
    pictures and sounds what they are, and its structured content, unless the texts say the same."""
    parts = [_part(part) for part in result.content]
    structured = result.structured_content
    if structured is not None and not _said(structured, [part.text for part in result.content if part.type == "text"]):
        parts.append(as_text(structured))
    return "\n".join(parts)


def _part(part: Any) -> str:
    if part.type == "text":
        return str(part.text)
    if part.type == "resource":
        resource = part.resource
        text = getattr(resource, "text", None)
        if text is not None:
            return f"[resource {resource.uri}]\n{text}"
        return f"[resource {resource.uri}: {resource.mime_type or 'binary'}, {_size(resource.blob)}]"
    if part.type == "resource_link":
        about = ", ".join(dict.fromkeys(str(text) for text in (part.title or part.name, part.description, part.mime_type) if text))
        return f"[link {part.uri}: {about}]"
    return f"[{part.type}: {part.mime_type}, {_size(part.data)}]"


def _size(base64: str) -> str:
    return f"{len(base64.rstrip('=')) * 3 // 4} bytes"


def _said(structured: Any, texts: list[str]) -> bool:
    """Whether the texts are the structured content in words; servers add one to the other for clients that read only one."""
    # A value that is no object is sent in an object, as "result" or by a name of its own; a list often with a text for each item.
    inner = next(iter(structured.values())) if isinstance(structured, dict) and len(structured) == 1 else structured
    for value in (structured, inner):
        if any(_same(value, text) for text in texts):
            return True
        if isinstance(value, list) and len(value) == len(texts) and all(map(_same, value, texts)):
            return True
    return False


def _same(value: Any, text: str) -> bool:
    try:
        return value == text or bool(value == json.loads(text))
    except (ValueError, RecursionError):
        return False
