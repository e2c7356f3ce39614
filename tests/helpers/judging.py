"""A chat endpoint on loopback that misbehaves on demand: a real HTTP server over real sockets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behavior = Callable[["Handler", dict[str, Any]], None]


class Server(ThreadingHTTPServer):
    """Plays the behaviors in ``script`` one per request, then the last one for ever."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, script: list[Behavior]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what the tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer waits 40 ms between its head and its body
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.requests.append({"path": self.path, **body})
            server.headers.append(dict(self.headers))
            behave = server.script[min(len(server.requests), len(server.script)) - 1]
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
        try:
            behave(self, body)
        finally:
            with server.lock:
                server.in_flight -= 1

    def reply(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(*script: Behavior) -> Iterator[Server]:
    server = Server(list(script))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


# ---------------------------------------------------------------- behaviors
def completion(grades: Any) -> bytes:
    call = {"id": "1", "type": "function", "function": {"name": "grade_steps", "arguments": json.dumps(grades)}}
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": [call]}}]}).encode()


def grade(succeeded: int = 1, contribution: float = 5, status: str = "Solved", extra: int = 0) -> Behavior:
    """Give every call the same grades; ``extra`` makes the lists too long."""

    def behave(handler: Handler, body: dict[str, Any]) -> None:
        count = int(body["messages"][1]["content"].split("<calls count=")[1].split(">")[0]) + extra
        said = {"succeed_tool_calling": [succeeded] * count, "contribution_to_final_answer": [contribution] * count, "final_answer_status": status}
        handler.reply(200, completion(said))

    return behave


def status(code: int, text: str = "no", **headers: str) -> Behavior:
    return lambda handler, body: handler.reply(code, text.encode(), **headers)


def says(content: bytes) -> Behavior:
    return lambda handler, body: handler.reply(200, content)


def slow(seconds: float) -> Behavior:
    def behave(handler: Handler, body: dict[str, Any]) -> None:
        handler.server.stopping.wait(seconds)
        grade()(handler, body)

    return behave


def drips(handler: Handler, body: dict[str, Any]) -> None:
    """Send a byte now and then, never silent for long, never done."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.stopping.wait(0.02):
        handler.wfile.write(b" ")


def cut_off(handler: Handler, body: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def echoes_the_key(code: int) -> Behavior:
    """Send back what came in the header, as some proxies do in their error pages."""

    def behave(handler: Handler, body: dict[str, Any]) -> None:
        handler.reply(code, f"bad key: {handler.headers['Authorization']}".encode())

    return behave


def waits_for(seconds: float, then: Behavior) -> Behavior:
    def behave(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(seconds)
        then(handler, body)

    return behave
