"""The retrying exchange below both HTTP clients: what is asked again, what is final, and what comes back."""

from __future__ import annotations

import gc
import gzip
import logging
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from servers import Reply, serving, talking
from servers import Request as Asked

from steptool_env.errors import InvalidArgument, MissingExtra
from steptool_env.tools.exchange import Answer, Exchange, Failure, Request, read_secret

pytest.importorskip("httpx2")

DEFAULTS: dict[str, Any] = {
    "timeout": 5.0,
    "attempts": 3,
    "backoff": 0.0,
    "longest_wait": 0.05,
    "concurrency": 2,
    "max_bytes": 1000,
    "passing": (429, 500, 503),
    "secrets": {},
}


@contextmanager
def exchange(**options: Any) -> Iterator[Exchange]:
    made = Exchange("the test", "http", **(DEFAULTS | options))
    yield made
    made.close()


def number(answer: Answer) -> int:
    return int(answer.content)


def answers(*replies: Reply) -> Any:
    """A server that gives one reply after another; the last for ever."""
    left = list(replies)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize(
    ("replies", "harmless", "outcome", "failures"),
    [
        ([(200, {}, "7")], True, 7, {}),
        ([(200, {}, "seven"), (200, {}, "7")], True, 7, {"nonsense": 1}),
        ([(503, {}, ""), (500, {}, ""), (200, {}, "7")], True, 7, {"http 503": 1, "http 500": 1}),
        ([(200, {}, "seven")], True, "nonsense", {"nonsense": 3, "given up": 1}),
        ([(429, {}, "slow down")], True, "http 429", {"http 429": 3, "given up": 1}),
        ([(429, {}, ""), (503, {}, ""), (200, {}, "7")], False, 7, {"http 429": 1, "http 503": 1}),  # refused: nothing was done
        ([(500, {}, ""), (200, {}, "7")], False, "http 500", {"http 500": 1, "given up": 1}),  # something may have been done
        ([(200, {}, "seven"), (200, {}, "7")], False, "nonsense", {"nonsense": 1, "given up": 1}),
        ([(200, {"Content-Encoding": "gzip"}, "7"), (200, {}, "7")], True, 7, {"nonsense": 1}),
        ([(200, {"Content-Length": "9"}, "7")], True, "cut off", {"cut off": 3, "given up": 1}),
    ],
)
def test_what_is_asked_again(replies: list[Reply], harmless: bool, outcome: Any, failures: dict[str, int]) -> None:
    if outcome == "cut off":
        server: Any = talking(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n7"))
    else:
        server = serving(answers(*replies))
    with server as here, exchange() as asks:
        found = asks.send(Request("POST", f"http://{here}/", {}), number, harmless=harmless)
        assert (found.kind if isinstance(found, Failure) else found) == outcome
        assert asks.failures == failures


def test_a_reader_may_say_that_a_failure_is_final() -> None:
    def read(answer: Answer) -> int:
        raise Failure(f"http {answer.status}", "none there", final=True)

    with serving(lambda request: (404, {}, "")) as here, exchange() as asks:
        failure = asks.send(Request("GET", f"http://{here}/"), read)
        assert isinstance(failure, Failure)
        assert (failure.kind, str(failure), failure.final) == ("http 404", "none there", True)
        assert asks.failures == {"http 404": 1, "given up": 1}


def test_a_fault_that_is_no_answer_s_goes_through() -> None:
    def read(answer: Answer) -> int:
        raise KeyboardInterrupt

    with serving(lambda request: (200, {}, "")) as here, exchange(concurrency=1) as asks:
        for _ in range(2):  # and gives its slot back
            with pytest.raises(KeyboardInterrupt):
                asks.send(Request("GET", f"http://{here}/"), read)


@pytest.mark.parametrize("length", [999, 1000, 1001, 5_000_000])
def test_a_long_body_is_cut_also_when_few_bytes_unpack_to_it(length: int) -> None:
    packed = gzip.compress(b"x" * length)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    with talking(lambda connection: connection.sendall(head + packed)) as here, exchange() as asks:
        answer = asks.send(Request("GET", f"http://{here}/"), lambda answer: answer)
        assert isinstance(answer, Answer)
        assert (asks.text(answer), answer.truncated) == ("x" * min(length, 1000), length > 1000)


def test_what_is_compressed_more_than_once_is_not_unpacked() -> None:
    with serving(lambda request: (200, {"Content-Encoding": "gzip, gzip"}, "")) as here, exchange(attempts=1) as asks:
        failure = asks.send(Request("GET", f"http://{here}/"), number)
        assert isinstance(failure, Failure)
        assert str(failure) == "the answer is compressed more than once: gzip, gzip"


@pytest.mark.parametrize("value", ["k3y-of-mine", "Bearer k3y-of-mine"])
def test_secrets_are_sent_and_do_not_come_back_not_even_in_parts(value: str) -> None:
    seen: list[str] = []

    def reply(request: Asked) -> Reply:
        seen.append(request.headers["Authorization"])
        return int(request.path[1:4]), {}, "-" * int(request.path[5:]) + "k3y-of-mine"

    with serving(reply) as here, exchange(secrets={"Authorization": value}, attempts=1, max_bytes=100) as asks:
        for dashes in range(85, 102):
            answer = asks.send(Request("GET", f"http://{here}/200/{dashes}"), lambda answer: answer)
            assert isinstance(answer, Answer)
            assert "k3" not in asks.text(answer)
            assert len(asks.text(answer)) <= 100
        for dashes in range(185, 201):
            failure = asks.send(Request("GET", f"http://{here}/500/{dashes}"), number)
            assert "k3" not in str(failure).removeprefix("HTTP status 500: ")
        echoed = asks.send(Request("GET", f"http://{here}/500/000"), number)
        assert str(echoed) == "HTTP status 500: ***"
    assert set(seen) == {value}


@pytest.mark.parametrize("value", ["99999", "Thu, 01 Jan 2037 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00 -0000", "soon", "-5", "²", "9" * 400])
def test_the_server_s_wish_to_wait_is_bounded(value: str) -> None:
    wait = f"HTTP/1.1 503 Busy\r\nRetry-After: {value}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode("latin-1")
    with talking(lambda connection: connection.sendall(wait)) as here, exchange() as asks:
        asks.send(Request("GET", f"http://{here}/"), number)
        assert asks.failures == {"http 503": 3, "given up": 1}


def test_the_first_failure_of_each_kind_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with serving(lambda request: (500, {}, "")) as here, exchange() as asks:
        for _ in range(2):
            asks.send(Request("GET", f"http://{here}/"), number)
    assert caplog.messages == ["the test: http 500 (further ones are only counted)", "the test: given up (further ones are only counted)"]


def test_an_exchange_that_nobody_needs_is_closed() -> None:
    asks = Exchange("the test", "http", **DEFAULTS)
    gone, closed = weakref.ref(asks), asks._close
    del asks
    gc.collect()
    assert gone() is None
    assert not closed.alive


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout must be at least 0.001, got 0"),
        ({"timeout": float("nan")}, "timeout must be at least 0.001, got nan"),
        ({"timeout": float("inf")}, "timeout must be finite"),
        ({"attempts": 0}, "attempts must be at least 1, got 0"),
        ({"backoff": -1}, "backoff"),
        ({"longest_wait": -1}, "longest_wait"),
        ({"concurrency": 0}, "concurrency"),
        ({"max_bytes": 0}, "max_bytes"),
    ],
)
def test_wrong_numbers(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message), exchange(**options):
        pass


def test_secrets_that_no_header_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP", " sesame\n")
    assert read_secret("SHOP", "X-Key") == "sesame"
    assert read_secret("NOT_SET_ANYWHERE", "X-Key") == ""
    monkeypatch.setenv("SHOP", "ses\name")
    with pytest.raises(InvalidArgument, match="SHOP") as refused:
        read_secret("SHOP", "X-Key")
    assert "ses" not in str(refused.value)


def test_without_the_package_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(MissingExtra, match=r"pip install 'steptool-env\[http\]'"), exchange():
        pass
