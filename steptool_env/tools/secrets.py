"""``Secrets``: finds keys that a server sends back, in the forms in which servers do, and erases them.

A key is found plainly, in upper or lower case; with each character, or some of them, escaped as in JSON (``\\/``, ``\\u004b``),
in JSON within JSON, in addresses (``%4B``, ``%254b``) or in HTML (``&#75;``, ``&#x4B;``, ``&amp;``); as hexadecimal digits; and
within base64, where it may begin at any place: the key in the base64 of ``Bearer KEY`` or ``user:KEY`` looks each time different.

What it cannot find: a key that was reversed, split, shortened, encrypted, compressed, or recoded in a way that is not on this list.
Nobody can, so a key should be worth little: one of least rights, with a limit, for this use alone.

The time is linear in the length of the text, whatever a server writes: no form can be tried in two ways from one place.
"""

from __future__ import annotations

import base64
import binascii
import functools
import html.entities
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from steptool_env.errors import InvalidArgument

__all__ = ["MARK", "Secrets", "read_secret"]

MARK = b"***"
"""What stands where a secret stood."""
_SHORTEST = 4
"""Shorter values are not looked for: they protect nothing, and too many innocent texts hold them."""
_LONGEST = 96
"""Most bytes that the forms of one character take."""
_BEGIN = 24
"""How many characters of a form are enough to know it: of a longer secret, a part that begins it is erased as well."""
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

# What begins an escape may itself be escaped once in another way, or several times in its own.
_BACKSLASH = rb"(?:(?:\\|%5[cC])u005[cC]|\\|%5[cC]|&#92;)"
_PERCENT = rb"(?:%(?:25){0,3}|\\u0025|&#37;|&percnt;)"
_AMPERSAND = rb"(?:&(?:amp;){0,3}|%26|\\u0026)"
_NAMES: dict[str, list[str]] = {}
"""Character -> its names in HTML."""
for _name, _value in html.entities.html5.items():
    if len(_value) == 1 and _name.endswith(";"):
        _NAMES.setdefault(_value, []).append(_name)
_ESCAPES = b"\\%&"
"""What escapes begin with."""
_BREAK = rb"(?:[\r\n]|\\[rn]){0,4}"
"""A line break within base64, as it is or as in JSON."""


class _Form(NamedTuple):
    """One form of one secret."""

    begin: re.Pattern[bytes]
    """Finds where it begins; group 1 is its first ``_BEGIN`` characters, or all of them."""
    rest: tuple[re.Pattern[bytes], ...]
    """The characters after those, one by one: one pattern of all would take seconds to build for a key of a thousand characters."""
    lead: bool
    """Whether the letter or digit before it holds a few of its bits."""


class Secrets:
    """A set of secrets, and a search for all of them. Immutable.

    Args:
        values: The secrets as they are sent; those of less than four characters are none. The scheme before a key (``Bearer``, ``Basic``, ``Token``)
            is no secret. Of ``Basic``, what is sent, the user with the password, and the password are.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self.values = tuple(dict.fromkeys(part for value in values for part in _parts(value) if len(part) >= _SHORTEST))
        self.longest = max((len(value.encode()) * _LONGEST for value in self.values), default=0)
        """Most bytes that one of them takes, in whatever form."""
        self._forms = [form for value in self.values for form in _forms(value)]

    def erase(self, content: bytes, end: int | None = None) -> bytes:
        """Return the content without the secrets; of what begins at ``end`` or later, nothing.

        If more than ``longest`` bytes follow ``end``, no half of a secret is left, wherever the content itself was cut.
        """
        end = len(content) if end is None else min(end, len(content))
        pieces, done = [], 0
        for start, stop in sorted(span for form in self._forms for span in _spans(form, content)):
            if start >= end:
                break
            if start >= done:
                pieces += [content[done:start], MARK]
            done = max(done, stop)
        return b"".join((*pieces, content[done:end]))

    def scrub(self, text: str) -> str:
        """Return the text without the secrets."""
        if not self._forms:
            return text
        return self.erase(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def read_secret(variable: str, header: str) -> str:
    """Return what an environment variable holds, to be sent in a header; empty if it is not set.

    Raises:
        InvalidArgument: A header cannot hold it. The message does not show it.
    """
    secret = os.environ.get(variable, "").strip()
    if not (secret.isascii() and secret.isprintable()):
        raise InvalidArgument(f"the environment variable {variable} holds characters that the header {header!r} cannot; set it again")
    return secret


def _parts(value: str) -> Iterator[str]:
    scheme, _, rest = value.strip().partition(" ")
    if scheme.lower() not in ("bearer", "basic", "token"):
        yield value.strip()
        return
    yield rest.strip()
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(rest.strip(), validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            return
        yield pair
        yield pair.partition(":")[2]


def _spans(form: _Form, content: bytes) -> Iterator[tuple[int, int]]:
    """Return where the form stands in the content, or at least its beginning."""
    stop = 0
    for match in form.begin.finditer(content):
        start, found = match.span(1)
        if start < stop:
            continue
        stop = found
        for pattern in form.rest:
            if (further := pattern.match(content, stop)) is None:
                break
            stop = further.end()
        yield start - (form.lead and content[max(start - 1, 0) : start].isalnum()), stop


def _forms(secret: str) -> Iterator[_Form]:
    data = secret.encode()
    yield _Form(re.compile(b"(" + re.escape(data) + b")"), (), False)  # also where it holds what looks like an escape
    runs = re.findall(r"\\+|[^\\]", secret)  # how many backslashes stand for one is known only of all that stand together
    plain = "".join((secret[0].lower(), secret[0].upper(), "+" * (secret[0] == " "))).encode()
    yield _form(plain + _ESCAPES, [_backslashes(len(run)) if run[0] == "\\" else _character(run) for run in runs])
    pairs = [f"{byte:02x}" for byte in data]
    yield _form((pairs[0][0] + pairs[0][0].upper()).encode(), [_digits(pairs[0]), *(rb"[ :,-]?" + _digits(pair) for pair in pairs[1:])])
    for offset in range(3):
        choices = list(_base64(data, offset))[offset > 0 :]
        patterns = [_letter(choice) for choice in choices]
        escaped = b"-_" + _ESCAPES if set(choices[0]) & set(b"+/") else b""
        yield _form(choices[0] + escaped, [patterns[0], *(_BREAK + pattern for pattern in patterns[1:])], lead=offset > 0)


def _form(first: bytes, characters: Sequence[bytes], lead: bool = False) -> _Form:
    """Return a form, given the bytes that it can begin with, and the pattern of each of its characters."""
    # To look for one of these bytes first, and for the rest only there, is many times as fast.
    begin = b"[" + re.escape(bytes(sorted({*first}))) + rb"](?<=(?=(" + b"".join(characters[:_BEGIN]) + rb"))[\s\S])"
    return _Form(re.compile(begin), tuple(map(_compiled, characters[_BEGIN:])), lead)


@functools.lru_cache(1024)
def _compiled(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern)


def _backslashes(count: int) -> bytes:
    """Return the pattern of so many backslashes in a row. Not atomic: the last of those that are there may escape what follows."""
    return rb"%b{%d,%d}" % (_character("\\"), count, 8 * count)


@functools.lru_cache(512)
def _character(char: str) -> bytes:
    """Return the pattern of one character, plain or escaped, in either case."""
    both = sorted({char, *(other for other in (char.lower(), char.upper()) if len(other) == 1)})
    units = [b"|".join(_units(one, form) for one in both) for form in ("json", "percent", "html")]
    names = b"|".join(re.escape(name.encode()) for one in both for name in sorted(_NAMES.get(one, ())))
    plain = b"|".join(re.escape(one.encode()) for one in [*both, *("+" for _ in range(char == " "))])
    forms = [  # what can be read further than another comes first: of "%", itself escaped, only the whole
        rb"(?:%b)" % units[1],
        rb"%b(?:#(?:%b);?%b)" % (_AMPERSAND, units[2], b"|" + names if names else b""),
        rb"(?>%b{1,8})(?:%b|%b)" % (_BACKSLASH, units[0], plain),
        plain,
    ]
    if char == "\\":
        forms = [rb"(?:\\|%5[cC])(?:u005[cC]|x5[cC]|u\{0{0,4}5[cC]\}|134)", *forms[:2], _BACKSLASH]
    return b"(?>" + b"|".join(forms) + b")"


def _units(char: str, form: str) -> bytes:
    """Return the pattern of what stands for a character behind ``\\``, in an address, or behind ``&#``."""
    code = ord(char)
    if form == "percent":
        return rb"".join(_PERCENT + _digits(f"{byte:02x}") for byte in char.encode()) + (b"|" + _PERCENT + b"u" + _digits(f"{code:04x}"))
    if form == "html":
        return rb"0{0,6}%d|[xX]0{0,6}%b" % (code, _digits(f"{code:x}"))
    short = [rb"x" + _digits(f"{code:02x}"), b"%03o" % code] if code < 256 else []
    return b"|".join([b"u" + _digits(f"{code:04x}"), rb"u\{0{0,4}" + _digits(f"{code:x}") + rb"\}", *short])


def _digits(number: str) -> bytes:
    """Return the pattern of hexadecimal digits in either case."""
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in number).encode()


def _base64(data: bytes, offset: int) -> Iterator[bytes]:
    """Return, for each base64 character that holds bits of the data, which it can be, if the data begins ``offset`` bytes after a multiple of 3."""
    bits = "." * 8 * offset + "".join(f"{byte:08b}" for byte in data)
    for start in range(8 * offset // 6 * 6, len(bits), 6):
        known = bits[start : start + 6].ljust(6, ".")
        if "." not in known:
            yield _ALPHABET[int(known, 2) :][:1]
            continue
        yield bytes(char for number, char in enumerate(_ALPHABET) if all(want in (".", bit) for want, bit in zip(known, f"{number:06b}", strict=True)))


def _letter(choice: bytes) -> bytes:
    """Return the pattern of one of these characters of base64, in either alphabet."""
    patterns = [b"[%b]" % letters] if (letters := choice.translate(None, b"+/")) else []
    patterns += [_character(char) for one, chars in ((b"+", "+-"), (b"/", "/_")) if one in choice for char in chars]
    return b"(?>" + b"|".join(patterns) + b")"
