"""The client of remote tools, against real servers on loopback: the host list, bounds, retries, secrets."""

from __future__ import annotations

import gc
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from servers import Reply, Request, serving, talking

from steptool_env.errors import InvalidArgument, Unavailable
from steptool_env.tools.http import HttpClient, NotAllowed, Passing, fault_of_status

pytest.importorskip("httpx2")


@contextmanager
def client(*hosts: str, **options: Any) -> Iterator[HttpClient]:
    made = HttpClient(hosts, **{"backoff": 0.001, "timeout": 5.0, **options})
    yield made
    made.close()


def test_only_listed_hosts_are_called() -> None:
    seen: list[str] = []

    def reply(request: Request) -> Reply:
        seen.append(request.path)
        return 200, {}, "yes"

    with serving(reply) as here, client(here, "example.com") as http:
        assert http.send("GET", f"http://{here}/a", params={"x": 1}).text == "yes"
        assert seen == ["/a?x=1"]
        port = here.partition(":")[2]
        for url in (
            f"http://localhost:{port}/",
            "http://127.0.0.1:1/",
            f"http://user@{here}/",
            f"ftp://{here}/",
            "file:///etc/passwd",
            "http://example.com.evil.org/",
            "http://[",
            "http://127.0.0.1:999999/",
            "",
        ):
            with pytest.raises(NotAllowed):
                http.send("GET", url)
        assert len(seen) == 1
    with pytest.raises(InvalidArgument):
        HttpClient([])
    with pytest.raises(InvalidArgument):
        HttpClient("127.0.0.1")


def test_a_name_on_the_list_may_not_lead_to_a_private_address() -> None:
    with serving(lambda request: (200, {}, "inside")) as here:
        url = f"http://localhost:{here.partition(':')[2]}/"
        with client("localhost") as http, pytest.raises(NotAllowed, match="not public"):
            http.send("GET", url)
        with client("localhost", private=["localhost"]) as http:
            assert http.send("GET", url).text == "inside"


def test_redirects_are_checked_as_well() -> None:
    with serving(lambda request: (200, {}, "secret")) as other:

        def reply(request: Request) -> Reply:
            if request.path == "/out":
                return 302, {"Location": f"http://{other}/"}, ""
            if request.path == "/in":
                return 303, {"Location": "/there"}, ""
            if request.path == "/ring":
                return 307, {"Location": "/ring"}, ""
            return 200, {}, f"{request.method} {request.path} {request.body}"

        with serving(reply) as here, client(here) as http:
            with pytest.raises(NotAllowed, match="not on the list"):
                http.send("GET", f"http://{here}/out")
            assert http.send("POST", f"http://{here}/in", json={"a": 1}).text == "GET /there "
            with pytest.raises(NotAllowed, match="redirects"):
                http.send("GET", f"http://{here}/ring")
        with serving(reply) as here, client(here, other) as http:
            assert http.send("GET", f"http://{here}/out").text == "secret"


@pytest.mark.parametrize(
    "location",
    ["http://[::1", "//[::1", "http://[", "http://[v1.x]/", "http://a:b:c/", "http://127.0.0.1:99999999/", "http://a b/", "http://\xff/", "http://%zz/",
     "http://xn--/", "\x01", "::::", "javascript:alert(1)",
     "file:///etc/passwd", "http://" + "a" * 300, "/" + "a" * 70_000, "http://0x7f.1/", "/\\[", "", "?", "http:"],
)  # fmt: skip
def test_a_redirect_to_anything_is_followed_or_refused(location: str) -> None:
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode("latin-1")
    with talking(lambda connection: connection.sendall(head)) as here, client("127.0.0.1", attempts=1) as http:
        with pytest.raises((NotAllowed, Unavailable)) as refused:  # the last few lead to where they come from, for ever
            http.send("GET", f"http://{here}/")
        assert len(str(refused.value)) <= 600


def test_a_redirect_may_carry_a_key_but_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", "s3cret-Key.of-mine")
    paths: list[str] = []

    def reply(request: Request) -> Reply:
        paths.append(request.path)
        if request.path.startswith("/?key="):
            return 307, {"Location": f"/there{request.path[1:]}"}, ""
        if request.path.startswith("/there"):
            return 200, {}, "arrived"
        return 302, {"Location": request.path[1:].replace("KEY", "s3cret-Key.of-mine")}, ""

    with serving(reply) as here, client(here, headers={"X-Key": "SHOP_KEY"}, attempts=1) as http:
        assert http.send("GET", f"http://{here}/?key=s3cret-Key.of-mine").text == "arrived"
        assert paths[-1] == "/there?key=s3cret-Key.of-mine"
        for location in ("http://KEY.evil.test/", "http://evil.test/KEY", "ftp://KEY/", "http://[KEY", "http://evil.test:KEY/", "http://KEY@evil.test/"):
            with pytest.raises((NotAllowed, Unavailable)) as refused:
                http.send("GET", f"http://{here}/{location}")
            assert "s3cret-k" not in str(refused.value).lower()


def test_long_answers_are_cut() -> None:
    with serving(lambda request: (200, {}, "x" * 300_000)) as here, client(here, max_bytes=1000) as http:
        answer = http.send("GET", f"http://{here}/")
        assert answer.truncated
        assert answer.text == "x" * 1000


def test_what_passes_is_tried_again_and_what_may_have_acted_is_not() -> None:
    tries: list[str] = []

    def reply(request: Request) -> Reply:
        tries.append(request.method)
        return (200, {}, "at last") if len(tries) == 3 else (int(request.path[1:]), {"Retry-After": "0"}, "wait")

    for method, status, again, outcome in [
        ("GET", 503, None, "at last"),
        ("POST", 429, None, "at last"),  # refused before anything was done
        ("GET", 500, None, "at last"),
        ("POST", 500, None, ""),
        ("POST", 500, True, "at last"),
    ]:
        tries.clear()
        with serving(reply) as here, client(here) as http:
            if outcome:
                assert http.send(method, f"http://{here}/{status}", again=again).text == outcome
                assert http.failures == {f"http {status}": 2}
            else:
                with pytest.raises(Unavailable, match="HTTP status 500"):
                    http.send(method, f"http://{here}/{status}", again=again)
                assert tries == ["POST"]
                assert http.failures == {"http 500": 1, "given up": 1}


@pytest.mark.parametrize(
    ("method", "status", "attempts", "passing"),
    [
        ("GET", 500, 2, True), ("GET", 429, 2, True), ("GET", 408, 2, True),  # the server is there
        ("GET", 502, 2, False), ("GET", 503, 2, False), ("GET", 504, 2, False),  # nobody behind it, in all attempts
        ("POST", 500, 2, True), ("POST", 502, 2, True), ("POST", 504, 2, True),  # asked once only
        ("POST", 503, 2, False), ("POST", 502, 1, False),
    ],
)  # fmt: skip
def test_what_another_call_may_mend_and_what_is_gone(method: str, status: int, attempts: int, passing: bool) -> None:
    with serving(lambda request: (status, {"Retry-After": "0"}, "too bad")) as here, client(here, attempts=attempts) as http:
        with pytest.raises(Unavailable, match=f"HTTP status {status}: too bad") as caught:
            http.send(method, f"http://{here}/")
        assert isinstance(caught.value, Passing) == passing


def test_a_request_that_may_have_acted_and_got_no_answer_is_passing() -> None:
    with talking(lambda connection: None) as here, client(here, attempts=3) as http:  # closes without an answer
        for method, passing in [("GET", False), ("POST", True)]:
            with pytest.raises(Unavailable) as caught:
                http.send(method, f"http://{here}/")
            assert isinstance(caught.value, Passing) == passing


def test_whose_fault_a_status_is() -> None:
    kinds: dict[str, list[int]] = {}
    for status in range(100, 600):
        kinds.setdefault(fault_of_status(status), []).append(status)
    assert kinds[""] == list(range(100, 400))
    assert kinds["unavailable"] == [401, 403, 407]
    assert kinds["transient"] == [408, 425, 429, *range(500, 600)]
    assert kinds["tool_failed"] == [405, 406, 411, 415]
    assert {400, 402, 404, 409, 410, 412, 413, 414, 418, 422, 451} <= set(kinds["rejected"])
    assert set(kinds) == {"", "unavailable", "transient", "tool_failed", "rejected"}


def test_a_body_of_bytes_is_sent_as_it_is_and_not_to_where_a_redirect_asks_for_none() -> None:
    def reply(request: Request) -> Reply:
        if request.path == "/303":
            return 303, {"Location": "/there"}, ""
        if request.path == "/307":
            return 307, {"Location": "/there"}, ""
        return 200, {}, f"{request.method} {request.headers.get('Content-Type')} {request.body}"

    with serving(reply) as here, client(here) as http:
        for path, expected in [("/", "POST text/plain a=b"), ("/307", "POST text/plain a=b"), ("/303", "GET None ")]:
            assert http.send("POST", f"http://{here}{path}", content=b"a=b", headers={"Content-Type": "text/plain"}).text == expected


def test_statuses_that_do_not_pass_are_answers() -> None:
    with serving(lambda request: (404, {}, "none")) as here, client(here) as http:
        assert http.send("GET", f"http://{here}/").status == 404
        assert not http.failures


def test_nobody_there_and_a_server_that_drips() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        with client("127.0.0.1", attempts=2) as http, pytest.raises(Unavailable, match="Connect"):
            http.send("GET", f"http://127.0.0.1:{port}/")
        listener.listen()
        stop = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not stop.wait(0.02):
                try:
                    connection.sendall(b".")
                except OSError:
                    break
            connection.close()

        thread = threading.Thread(target=drip)
        thread.start()
        with client("127.0.0.1", timeout=0.2, attempts=1) as http, pytest.raises(Unavailable, match="complete answer"):
            http.send("GET", f"http://127.0.0.1:{port}/")
        stop.set()
        thread.join()


def test_secrets_come_from_the_environment_and_never_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", "s3cret-key")

    def reply(request: Request) -> Reply:
        return (200 if request.path == "/" else 500), {}, f"you sent {request.headers['X-Key']}"

    with serving(reply) as here, client(here, headers={"X-Key": "SHOP_KEY"}, attempts=1) as http:
        assert http.send("GET", f"http://{here}/").text == "you sent ***"
        with pytest.raises(Unavailable) as caught:
            http.send("GET", f"http://{here}/fail")
        assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("SHOP_KEY", "line\nbreak")
    with pytest.raises(InvalidArgument, match="SHOP_KEY"):
        HttpClient(["a.b"], headers={"X-Key": "SHOP_KEY"})


def test_no_more_requests_in_flight_than_allowed() -> None:
    running, most, lock = [0], [0], threading.Lock()

    def reply(request: Request) -> Reply:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1
        return 200, {}, ""

    with serving(reply) as here, client(here, concurrency=3) as http:
        threads = [threading.Thread(target=http.send, args=("GET", f"http://{here}/")) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most[0] <= 3


def test_a_client_that_nobody_needs_is_closed() -> None:
    http = HttpClient(["127.0.0.1"])
    gone = weakref.ref(http._exchange)
    del http
    gc.collect()
    assert gone() is None
