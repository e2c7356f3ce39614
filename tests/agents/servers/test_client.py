"""What is the chat client's own: the endpoint, other addresses of the server, proxies; the rest is tested through the judge."""

from __future__ import annotations

import gc
import json
import socket
import time
import weakref

import pytest
from servers import Reply, Request, serving, talking

from steptool_agents.servers import client as module
from steptool_agents.servers.client import ChatClient, Failure

pytest.importorskip("httpx2")


def chat(text: str) -> Reply:
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


def ask(client: ChatClient) -> str | Failure:
    (answer,) = client.ask_all([({"messages": []}, 0)], lambda place, message: str(message["content"]))
    return answer


def test_a_local_endpoint_needs_no_list_of_hosts() -> None:
    with serving(lambda request: chat("hello")) as here:
        for host in (here, here.replace("127.0.0.1", "localhost")):
            client = ChatClient(f"http://{host}/v1")
            assert ask(client) == "hello"
            client.close()


def test_other_addresses_of_the_server() -> None:
    def reply(request: Request) -> Reply:
        return (200, {}, {"/json": '{"a": 1}', "/text": "done"}[request.path]) if request.method == "POST" else (405, {}, "")

    with serving(reply) as here:
        client = ChatClient(f"http://{here}/v1", attempts=2, backoff=0.0)
        assert client.post("/json", {}) == {"a": 1}
        assert client.post("/text", {}) == "done"
        failure = client.post("/text", {}, lambda content: content["a"])
        client.close()
    assert isinstance(failure, Failure)
    assert failure.kind == "nonsense"
    assert client.failures == {"nonsense": 2, "given up": 1}


def test_an_answer_without_end_is_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 1000)
    with serving(lambda request: chat("x" * 2000)) as here:
        client = ChatClient(f"http://{here}/v1", attempts=1)
        failure = ask(client)
        client.close()
    assert isinstance(failure, Failure)
    assert (failure.kind, str(failure)) == ("nonsense", "the answer makes no sense: it is longer than 1000 bytes")


def test_the_time_limit_is_one_on_the_whole_attempt() -> None:
    def talk(connection: socket.socket) -> None:
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Long: header\r\n" * 100:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)

    with talking(talk) as here:
        client = ChatClient(f"http://{here}/v1", timeout=0.3, attempts=2, backoff=0.0)
        started = time.monotonic()
        failure = ask(client)
        assert 0.5 < time.monotonic() - started < 1.2
        client.close()
    assert isinstance(failure, Failure)
    assert client.failures == {"timeout": 2, "given up": 1}


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def proxy(request: Request) -> Reply:
        seen.append(f"{request.path} {request.headers.get('Proxy-Authorization')}")
        return chat("through the proxy")

    with serving(proxy) as there, serving(lambda request: chat("straight")) as here:
        for name in ("no_proxy", "NO_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", f"http://me:pw@{there}")
        client = ChatClient("http://model.test/v1")
        assert ask(client) == "through the proxy"
        client.close()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        client = ChatClient(f"http://{here}/v1")
        assert ask(client) == "straight"
        client.close()
    assert seen == ["http://model.test/v1/chat/completions Basic bWU6cHc="]


def test_a_client_that_nobody_needs_is_closed() -> None:
    client = ChatClient("http://127.0.0.1:1/v1")
    gone = weakref.ref(client._exchange)
    del client
    gc.collect()
    assert gone() is None
