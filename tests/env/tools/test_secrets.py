"""Erasing keys: whatever form a server gives them, wherever it is cut, and nothing else."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import random
import string
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steptool_env.errors import InvalidArgument
from steptool_env.tools.secrets import Secrets, read_secret

KEY = "sk-Proj/4f+Kq_9=Zx.71&~w%2BtR"
KEYS = (KEY, "K3y+/=&<>\"'`", "0123456789abcdef", "p@ss\\word\\\\x", "sk_" + "Ab9-" * 250, "ünïcode-kéy", "ab1-")


def json_unicode(text: str) -> str:
    return "".join(f"\\u{ord(char):04x}" for char in text)


def base64s(text: str) -> list[str]:
    """The key within base64, at each of its three places, in both alphabets, with and without lines."""
    found = []
    for before in ("", "u", "us", "user:", "Bearer "):
        data = f"{before}{text}".encode()
        found += [base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode().rstrip("="), base64.encodebytes(data).decode()]
        found += [json.dumps(found[-1]), base64.b64encode(data + b", and more").decode(), found[-3].replace("/", "\\/"), urllib.parse.quote_plus(found[-3])]
    return found


def percent(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


FORMS: dict[str, Callable[[str], list[str]]] = {
    "plain": lambda key: [key, key.upper(), key.lower(), f"Bearer {key}", repr(key)],
    "json": lambda key: [json.dumps(key), json.dumps(key).replace("/", "\\/"), json_unicode(key), json_unicode(key).upper().replace("\\U", "\\u")],
    "json twice": lambda key: [json.dumps(json.dumps(key).replace("/", "\\/")), json.dumps(json_unicode(key)), json.dumps(json.dumps(json_unicode(key)))],
    "javascript": lambda key: ["".join(f"\\u{{{ord(char):x}}}" for char in key), "".join(f"\\x{ord(char):02x}" for char in key)],
    "address": lambda key: [urllib.parse.quote(key, safe=""), percent(key), percent(key).upper(), urllib.parse.quote(percent(key))],
    "html": lambda key: [html.escape(html.escape(key)), "".join(f"&#{ord(char)};" for char in key), "".join(f"&#x{ord(char):04X};" for char in key)],
    "address in json": lambda key: [json_unicode("%").join(percent(key).split("%")), urllib.parse.quote(json_unicode(key))],
    "hexadecimal": lambda key: [key.encode().hex(), key.encode().hex().upper(), key.encode().hex(":"), key.encode().hex(" ")],
    "base64": base64s,
}


def readable(text: str) -> set[str]:
    """Everything that somebody who looks for a key can make of a text."""
    found, new = set[str](), {text}
    while new:
        found |= new
        made = set[str]()
        for one in new:
            made |= {html.unescape(one), urllib.parse.unquote(one)}
            for escaped in (one, '"' + one.strip('"') + '"', '"' + one.replace("\n", "\\n").replace('"', '\\"') + '"'):
                with contextlib.suppress(ValueError):
                    made.add(str(json.loads(escaped)))
        new = made - found if len(found) < 100 else set()
    return found


def parts(key: str, length: int = 5) -> set[str]:
    return {key[start : start + length].lower() for start in range(len(key) - length + 1)}


def leaks(text: str, key: str) -> bool:
    """Whether five characters of a key can still be read in a text, in any of the forms."""
    wanted = parts(key)
    for one in readable(text):
        if any(part in one.lower() for part in wanted):
            return True
        flat = "".join(char for char in one if char.isalnum() or char in "+/-_").replace("-", "+").replace("_", "/")
        for start in range(4):
            piece = flat[start:]
            decoded = base64.b64decode(piece[: len(piece) // 4 * 4], validate=False).decode("latin-1").lower()
            if any(part in decoded for part in wanted):
                return True
        digits = "".join(char for char in one if char in string.hexdigits)
        for start in range(2):
            piece = digits[start:]
            if any(part in bytes.fromhex(piece[: len(piece) // 2 * 2]).decode("latin-1").lower() for part in wanted):
                return True
    return False


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:8])
def test_every_form_of_a_key_is_found(key: str, form: str) -> None:
    secrets = Secrets([f"Bearer {key}"])
    for echo in FORMS[form](key):
        for text in (echo, f"you sent {echo}, and that is wrong", f"=={echo}{echo}=="):
            shown = secrets.scrub(text)
            assert "***" in shown, echo
            assert len(key) < 5 or not leaks(shown, key), (echo, shown)


def test_the_forms_leak_when_nothing_is_erased() -> None:
    for make in FORMS.values():
        for echo in make(KEY):
            assert leaks(echo, KEY), echo


MIXED: list[Callable[[str], str]] = [
    str,
    str.upper,
    lambda char: f"\\u{ord(char):04X}",
    lambda char: f"\\\\u{ord(char):04x}",
    lambda char: f"\\x{ord(char):02x}",
    lambda char: f"%{ord(char):02X}",
    lambda char: f"%25{ord(char):02x}",
    lambda char: f"&#{ord(char)};",
    lambda char: f"&#x{ord(char):x};",
    lambda char: f"\\{char}" if not char.isalnum() else char,
]


@given(st.lists(st.sampled_from(MIXED), min_size=len(KEY), max_size=len(KEY)), st.text(alphabet='a %\\&u0=/"\n', max_size=4), st.integers(0, 400))
def test_forms_may_change_within_a_key_and_a_cut_leaves_no_half(ways: list[Callable[[str], str]], before: str, end: int) -> None:
    secrets = Secrets([KEY])
    echo = "".join(way(char) for way, char in zip(ways, KEY, strict=True))
    text = f"{before}{echo} and so on"
    assert "***" in secrets.scrub(text)
    assert secrets.scrub(text).endswith(" and so on")
    # A part was received, up to ``longest`` bytes beyond what is wanted.
    content = (text * 2).encode() + b"." * secrets.longest
    shown = secrets.erase(content[: end + secrets.longest], end)
    assert not any(piece in shown.decode().lower() for piece in parts(KEY))
    assert shown.count(b"***") <= 2


OTHER = Secrets(["Bearer sk-abcdefgh-0123456789"])


@given(st.text(max_size=200))
def test_what_holds_no_key_stays_as_it_is(text: str) -> None:
    assert OTHER.scrub(text) == text
    assert Secrets().scrub(text) == Secrets(["", "Bearer ", "k", "Token abc"]).scrub(text) == text


def test_json_stays_json() -> None:
    secrets = Secrets(["/a/key\\with\"all"])
    for echo in ("/a/key\\with\"all", "C:\\/a/key\\with\"all\\", "\n/a/key\\with\"all\n"):
        for text in (json.dumps({"x": echo}), json.dumps({"x": echo}).replace("/", "\\/"), json.dumps({"x": json.dumps(echo)})):
            shown = secrets.scrub(text)
            assert "***" in json.loads(shown)["x"]
            assert "key" not in shown


def test_of_a_user_with_a_password_all_parts_are_secret() -> None:
    sent = "Basic " + base64.b64encode(b"me:open sesame").decode()
    secrets = Secrets([sent])
    for echo in (sent, "me:open sesame", "password: open sesame", "open+sesame", base64.b64encode(b"xme:open sesame").decode()):
        assert "***" in secrets.scrub(echo)
        assert "sesame" not in secrets.scrub(echo)
    assert Secrets(["Basic no base64"]).values == ("no base64",)


def test_one_secret_within_another_and_one_that_overlaps_another() -> None:
    assert Secrets(["abcdef", "abcdef-ghi"]).scrub("<abcdef-ghi><abcdef>") == "<***><***>"
    assert Secrets(["abcdef", "efghij"]).scrub("<abcdefghij>") == "<***>"


def test_a_long_beginning_of_a_key_is_erased_too() -> None:
    assert Secrets([KEY * 3]).scrub(f"your key begins with {KEY}...") == "your key begins with ***..."


def test_the_time_does_not_explode() -> None:
    # Each of these took minutes, if a form could match in two ways; the test would then meet the time limit of the whole suite.
    for key in ("\\" * 9, "%25" * 20, "&amp;" * 12, "a" * 60, KEY):
        secrets = Secrets([key])
        for unit in ("\\", "%25", "&amp;", "a", "\\u005c", "%5c", "&#92;", json_unicode(key[:-1]), key[:-1], base64.b64encode(key[:-1].encode()).decode()):
            secrets.erase((unit * (6_000 // len(unit))).encode())


def test_random_keys_in_random_forms_within_random_noise() -> None:
    draw = random.Random(0)
    for _ in range(60):
        key = "".join(draw.choices(string.ascii_letters + string.digits + "-._~+/=!*&%", k=draw.randrange(12, 90)))
        secrets = Secrets([key])
        noise = ["".join(draw.choices(string.printable, k=draw.randrange(20))) + " " for _ in range(3)]
        echo = draw.choice(draw.choice([FORMS[form] for form in FORMS if form != "plain"])(key))
        assert secrets.scrub(f"{noise[0]}{echo} {noise[1]}").count("***") == 1, (key, echo)


def test_secrets_that_no_header_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP", " sesame\n")
    assert read_secret("SHOP", "X-Key") == "sesame"
    assert read_secret("NOT_SET_ANYWHERE", "X-Key") == ""
    monkeypatch.setenv("SHOP", "ses\name")
    with pytest.raises(InvalidArgument, match="SHOP") as refused:
        read_secret("SHOP", "X-Key")
    assert "ses" not in str(refused.value)
