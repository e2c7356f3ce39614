"""Servers for the tests: real ones on loopback, in a thread or in a process of their own that can be killed.

python tests/servers.py http            an HTTP API with a document, and ``/virtual``; prints its port
python tests/servers.py chat            an OpenAI-compatible model that plays the suite jsonl right; prints its port
"""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

STOCK = {"a1": {"name": "lamp", "price": 30}, "b2": {"name": "desk", "price": 120}}

DOCUMENT: dict[str, Any] = {
    "openapi": "3.0.3",
    "paths": {
        "/items/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": {"operationId": "getItem", "summary": "One item.", "security": [{"key": []}]},
        },
        "/items": {
            "get": {
                "operationId": "listItems",
                "parameters": [
                    {"$ref": "#/components/parameters/Most"},
                    {"name": "tag", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                    {"name": "session", "in": "cookie", "schema": {"type": "string"}},
                ],
            }
        },
        "/orders": {
            "post": {
                "operationId": "placeOrder",
                "description": "Order an item.",
                "requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}}},
            }
        },
        "/upload": {"post": {"operationId": "upload", "requestBody": {"required": True, "content": {"image/png": {}}}}},
    },
    "components": {
        "parameters": {"Most": {"name": "most", "in": "query", "schema": {"type": "integer", "minimum": 1}}},
        "schemas": {
            "Order": {
                "type": "object",
                "required": ["item"],
                "properties": {"item": {"type": "string"}, "note": {"type": "string", "nullable": True}, "parent": {"$ref": "#/components/schemas/Order"}},
            }
        },
        "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}, "token": {"type": "http", "scheme": "bearer"}},
    },
}


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: str


Reply = tuple[int, dict[str, str], str]
"""Status, headers, body."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer waits 40 ms between its head and its body
    reply: Callable[[Request], Reply]

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        status, headers, text = type(self).reply(Request(self.command, self.path, dict(self.headers), body))
        data = text.encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer

    def log_message(self, *_: Any) -> None: ...


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None: ...  # a client that stops reading is part of some tests


@contextmanager
def serving(reply: Callable[[Request], Reply]) -> Iterator[str]:
    """Serve in a thread; yields ``127.0.0.1:port``."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"reply": staticmethod(reply)}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Hand every connection, once its request has begun to come in, to ``talk``; yields ``127.0.0.1:port``.

    ``talk`` may send whatever it likes, for as long as it likes: it ends when the other side has closed the connection, and
    must let the ``OSError`` through. The threads of all connections are joined at the end, so a client that does not close
    its connections is found out.
    """
    threads: list[threading.Thread] = []

    def handle(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            talk(connection)
            # What of the request is still unread would make closing a reset, and a reset can overtake the answer.
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(1)
            while connection.recv(65536):
                pass

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=handle, args=(connection,), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake the thread that accepts
    acceptor.join(5)
    for thread in threads:
        thread.join(5)
    assert not acceptor.is_alive() and not any(thread.is_alive() for thread in threads), "a connection is still open"


@contextmanager
def process(kind: str, file: str = __file__, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server of this file, or of another one, as a process of its own; yields it and ``127.0.0.1:port``."""
    import os

    command = [sys.executable, file, kind]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | env)
    try:
        assert running.stdout is not None
        yield running, f"127.0.0.1:{int(running.stdout.readline())}"
    finally:
        running.kill()
        running.wait()
        assert running.stdout is not None
        running.stdout.close()


def shop(request: Request) -> Reply:
    """The API of ``DOCUMENT``; the time of day is in every answer, so that a replay shows."""
    path, _, query = request.path.partition("?")
    if request.headers.get("X-Key", "sesame") != "sesame":
        return 401, {}, "wrong key"
    if path.startswith("/items/"):
        item = STOCK.get(path.removeprefix("/items/"))
        return (200, {}, json.dumps({**item, "at": time.time_ns()})) if item else (404, {}, json.dumps({"detail": "no such item"}))
    if path == "/items":
        return 200, {}, json.dumps({"ids": sorted(STOCK), "query": query})
    if path == "/orders" and request.method == "POST":
        order = json.loads(request.body)
        return (200, {}, json.dumps({"ordered": order})) if order["item"] in STOCK else (422, {}, json.dumps({"detail": "no such item"}))
    return 404, {}, "not found"


def oracle_chat(form: str = "native", seen: list[dict[str, Any]] | None = None) -> Callable[[Request], Reply]:
    """A chat endpoint that solves the tasks of ``jsonl``: it finds out from the transcript alone which call comes next.

    Args:
        form: ``"native"`` tool calls, or a call format.
        seen: Gets the body of every request.
    """
    from steptool_env import StepToolEnv, make_format, make_suite

    suite = make_suite("jsonl", split="all")

    def reply(request: Request) -> Reply:
        body = json.loads(request.body)
        if seen is not None:
            seen.append(body)
        user = next(one["content"] for one in body["messages"] if one["role"] == "user")
        env = StepToolEnv(suite, "final")
        env.reset(options={"task": next(task.id for task in suite if task.instruction == user)})
        for _ in range(sum(one["role"] == "assistant" for one in body["messages"])):
            env.step(env.solution()[0])
        call = env.solution()[0]
        function = {"name": call.name, "arguments": json.dumps(dict(call.arguments))}
        said: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "type": "function", "function": function}]}
        if form != "native":
            said = {"role": "assistant", "content": make_format(form).render(call)}
        choice = {"message": said, "token_ids": [5, 6], "logprobs": {"content": [{"logprob": -0.5}, {"logprob": -0.25}]}}
        return 200, {}, json.dumps({"choices": [choice]})

    return reply


def main(kind: str) -> None:
    reply = shop if kind == "http" else oracle_chat()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"reply": staticmethod(reply)}))
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
