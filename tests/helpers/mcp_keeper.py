"""An MCP server for the tests, as a process of its own, that keeps what it is told.

python tests/helpers/mcp_keeper.py stdio     speaks over stdin and stdout
python tests/helpers/mcp_keeper.py http      speaks streamable HTTP (or ``sse``, the older transport); prints its port

The last two take a port of the environment's ``PORT``, and want the token of ``TOKEN``.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)


def _state() -> Any:
    server = MCPServer("state")
    words: list[str] = []

    @server.tool(structured_output=False)
    def remember(word: str) -> str:
        """Keep a word."""
        words.append(word)
        return f"kept {word}"

    @server.tool(structured_output=False)
    def recall() -> str:
        """Say the words that are kept, and by which process."""
        return " ".join([*words, f"pid={os.getpid()}"])

    @server.tool(structured_output=False)
    def clear(less: int = 0) -> str:
        """Forget all words but so many."""
        if less < 0:
            raise ValueError("cannot")
        del words[less:]
        return "cleared"

    @server.tool(structured_output=False)
    async def grow(name: str, context: Context) -> str:
        """Offer one more tool."""
        server.add_tool(lambda: f"I am {name}", name=name, structured_output=False)
        await context.session.send_tool_list_changed()
        return "grown"

    @server.tool(structured_output=False)
    def shrink(name: str) -> str:
        """Offer one tool less."""
        server.remove_tool(name)
        return "shrunk"

    @server.tool(structured_output=False, description=f"Say what nobody should: it is {os.environ.get('TOKEN', '')}")
    def token() -> str:
        return f"the token is {os.environ.get('TOKEN', '')}"

    @server.tool(structured_output=False)
    def finish(answer: str) -> str:
        """Has a name that is taken."""
        return f"finished {answer}"

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool()
    def several() -> list[str]:
        """Give a list."""
        return ["a", "b"]

    @server.tool(structured_output=False)
    def contents() -> CallToolResult:
        """Give one of everything."""
        text = TextResourceContents(uri="file:///notes.txt", text="the text of it", mime_type="text/plain")
        blob = BlobResourceContents(uri="file:///x.bin", blob="AAECAw==", mime_type="application/x")
        parts = [
            TextContent(text="first"),
            EmbeddedResource(resource=text),
            EmbeddedResource(resource=blob),
            ResourceLink(uri="https://example.com/doc", name="doc", description="A document.", mime_type="text/html"),
            ImageContent(data="AAECAw==", mime_type="image/png"),
            AudioContent(data="AAEC", mime_type="audio/wav"),
        ]
        return CallToolResult(content=parts, structured_content={"more": [1, 2]})

    return server


def _serve(kind: str) -> None:
    server = _state()
    app = server.sse_app() if kind == "sse" else server.streamable_http_app()
    token = os.environ.get("TOKEN", "")

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and token and (b"authorization", f"Bearer {token}".encode()) not in scope["headers"]:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await app(scope, receive, send)

    listener = socket.create_server(("127.0.0.1", int(os.environ.get("PORT", "0"))))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(guarded, log_level="error", timeout_graceful_shutdown=1)).run([listener])


def main(kind: str) -> None:
    """Serve until the process is ended."""
    if kind == "stdio":
        _state().run(transport="stdio")
    else:
        _serve(kind)


if __name__ == "__main__":
    main(sys.argv[1])
