"""The retrying exchange below both HTTP clients: what is asked again, what is final, and what comes back."""

from __future__ import annotations

import base64
import functools
import gc
import gzip
import json
import logging
import sys
import tracemalloc
import urllib.parse
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from servers import Reply, serving, talking
from servers import Request as Asked

from steptool_env.errors import InvalidArgument, MissingExtra
from steptool_env.tools.exchange import Answer, Exchange, Failure, Request

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
        assert (answer.text, answer.truncated) == ("x" * min(length, 1000), length > 1000)


@functools.cache
def bombs() -> dict[str, tuple[str, bytes]]:
    """Content encoding and body of answers that unpack to very much, or to nothing for very long."""
    zeros = b"\0" * 12_000_000
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    raw = deflate.compress(zeros) + deflate.flush()
    twice = gzip.compress(gzip.compress(zeros))
    many = gzip.compress(b"") * 10_000
    return {
        "gzip within gzip": ("gzip, gzip", twice),
        "the same, said once": ("gzip", twice),
        "three kinds": ("deflate,gzip , br", twice),
        "said twice": ("gzip\r\nContent-Encoding: gzip", twice),
        "deflate": ("deflate", zlib.compress(zeros)),
        "deflate without a head": ("deflate", raw),
        "members without content": ("gzip", many),
        "br": ("br", gzip.compress(zeros)),
        "zstd": ("zstd", gzip.compress(zeros)),
        "cut short": ("gzip", gzip.compress(zeros)[:-9]),
        "unheard of": ("x-" + "y" * 500, gzip.compress(zeros)),
    }


@pytest.mark.parametrize("bomb", bombs())
def test_what_is_compressed_more_than_once_is_not_unpacked_and_the_rest_is_cut(bomb: str) -> None:
    encoding, packed = bombs()[bomb]
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(packed)}\r\nConnection: close\r\n\r\n".encode()
    with talking(lambda connection: connection.sendall(head + packed)) as here, exchange(attempts=1) as asks:
        tracemalloc.start()
        found = asks.send(Request("GET", f"http://{here}/"), lambda answer: answer)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < 6_000_000  # of 12 MB
    if isinstance(found, Failure):
        assert found.kind == "nonsense"
        assert "compressed more than once" in str(found) or "decompressed" in str(found)
    else:
        assert len(found.content) <= 1000
        assert found.truncated or len(found.content) < 1000
    assert isinstance(found, Failure) == (bomb in ("gzip within gzip", "three kinds", "said twice"))


KEY = "sk-Pr0j/x4+Q_9=Zt.7w"


def echoes(key: str) -> dict[str, str]:
    """What a server may make of a key."""
    unicode = "".join(f"\\u{ord(char):04x}" for char in key)
    return {
        "plain": key,
        "json": json.dumps(f"Bearer {key}").replace("/", "\\/"),
        "unicode": unicode,
        "mixed": "".join(f"\\u{ord(char):04X}" if place % 3 else char for place, char in enumerate(key)),
        "json within json": json.dumps({"echo": unicode}),
        "percent": urllib.parse.quote(key, safe=""),
        "every character": "".join(f"%{ord(char):02x}" for char in key),
        "percent twice": "".join(f"%25{ord(char):02X}" for char in key),
        "html": "".join(f"&#x{ord(char):x};" for char in key),
        "hexadecimal": key.encode().hex(),
        "upper case": key.upper(),
        **{f"base64 {before}": base64.b64encode(f"{before}{key}".encode()).decode() for before in ("", "Bearer ", "user:", "me:")},
        "base64 in addresses": base64.urlsafe_b64encode(f"Bearer {key}".encode()).decode(),
    }


def pieces(echo: str) -> set[str]:
    """Parts of an echo that tell a good deal of the key; what a base64 text has before the key tells nothing."""
    body = echo[12:] if echo[:4] in ("QmVh", "dXNl") else echo.removeprefix('"Bearer ')
    return {body[start : start + 14] for start in range(max(1, len(body) - 14))}


@pytest.mark.parametrize(("form", "value"), [(form, f"Bearer {KEY}") for form in echoes(KEY)] + [("plain", KEY)])
def test_secrets_are_sent_and_do_not_come_back_in_any_form_not_even_in_parts(form: str, value: str) -> None:
    seen: set[str] = set()
    echo = echoes(KEY)[form]

    def reply(request: Asked) -> Reply:
        seen.add(request.headers["Authorization"])
        status, dashes = request.path[1:].split("/")
        return int(status), {"X-Echo": echo, "Location": f"/{echo}"}, "-" * int(dashes) + echo + "." * 60

    def shown(here: str, status: int, dashes: int) -> str:
        found = asks.send(Request("GET", f"http://{here}/{status}/{dashes}"), lambda answer: answer)
        return str(found) if isinstance(found, Failure) else found.text + "".join(found.headers.values())

    with serving(reply) as here, exchange(secrets={"Authorization": value}, attempts=1, max_bytes=100) as asks:
        for status, end in ((200, 100), (500, 200), (404, 100)):
            for dashes in sorted({max(0, end - len(echo) * cut // 7) for cut in range(9)}):
                text = shown(here, status, dashes)
                assert not any(piece in text for piece in pieces(echo)), text
            assert "***" in shown(here, status, 0)
    assert seen == {value}


def test_what_is_hidden_later_is_hidden_too_and_the_proxy_s_password_from_the_start() -> None:
    def reply(request: Asked) -> Reply:
        return 407, {"Proxy-Authenticate": f"Basic {request.headers.get('Proxy-Authorization')}"}, "me:open sesame, late comer"

    with serving(reply) as here, exchange(attempts=1, proxy=f"http://me:open%20sesame@{here}") as asks:
        answer = asks.send(Request("GET", "http://model.test/"), lambda answer: answer)
        assert isinstance(answer, Answer)
        assert answer.text == "***, late comer"
        assert "bWU6" not in str(answer.headers)
        asks.hide(["late comer"])
        answer = asks.send(Request("GET", "http://model.test/"), lambda answer: answer)
        assert isinstance(answer, Answer)
        assert answer.text == "***, ***"


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
    rest = "(the first of this kind; further ones are counted, not logged)"
    assert caplog.messages == [f"the test failed: http 500 {rest}", f"the test failed: given up {rest}"]


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


def test_without_the_package_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(MissingExtra, match=r"pip install 'steptool-env\[http\]'"), exchange():
        pass
