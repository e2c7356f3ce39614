"""``Operation``: how the arguments of one tool become a request. Whatever a model writes, it stays in its place of the request.

A value never changes the host, the scheme, the segments of the path that it was not made for, or another parameter: it is
percent-encoded or refused as ``BadArguments``.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from steptool_env.tools.openapi.bodies import Body
from steptool_env.tools.openapi.document import Unusable
from steptool_env.tools.openapi.styles import Parameter, header, in_path, json_text, leads_elsewhere, plain, query, quoted
from steptool_env.tools.tool import BadArguments

__all__ = ["Operation", "Template"]

_LONGEST = 16_384
"""Most characters of an address; servers refuse long ones, and clients even earlier."""
_LITERAL = "/:@!$&'()*+,;=-._~%"
"""What stays as it is in what a document's path says."""


@dataclass(frozen=True)
class Template:
    """A path with names in braces; it may have a query of its own. A fragment is never sent."""

    path: tuple[str, ...]
    """Texts and names in turn; texts are percent-encoded."""
    query: tuple[str, ...]

    @classmethod
    def read(cls, path: str) -> Template:
        """Read a path as a document has it."""
        pieces = re.split(r"\{([^{}]*)\}", path)
        for number in range(0, len(pieces), 2):
            if "#" in pieces[number]:
                pieces = [*pieces[:number], pieces[number].partition("#")[0]]
                break
        for number in range(0, len(pieces), 2):
            before, mark, after = pieces[number].partition("?")
            if mark:
                return cls(_encoded([*pieces[:number], before]), _encoded([after, *pieces[number + 1 :]], "?"))
        return cls(_encoded(pieces), ())

    @property
    def names(self) -> set[str]:
        """The names in braces."""
        return {*self.path[1::2], *self.query[1::2]}

    @property
    def fixed(self) -> set[str]:
        """The names of the parameters that its own query has."""
        return {name for name, _ in urllib.parse.parse_qsl("_".join(self.query[::2]), keep_blank_values=True)}

    def fill(self, values: Mapping[str, tuple[Parameter, object]]) -> tuple[str, str]:
        """Return the path and its own query with the values in their places; raises ``BadArguments``."""
        path = "".join(in_path(*values[piece]) if number % 2 else piece for number, piece in enumerate(self.path))
        shape = "".join("{}" if number % 2 else piece for number, piece in enumerate(self.path))
        for part, segment in zip(shape.split("/"), path.split("/"), strict=True):
            if "{}" in part and leads_elsewhere(segment):  # together with what stands beside it
                raise BadArguments(f"{', '.join(values)}: together they make the path segment {segment!r}, which leads elsewhere")
        return path, "".join(_in_query(*values[piece]) if number % 2 else piece for number, piece in enumerate(self.query))


def _encoded(pieces: Sequence[str], further: str = "") -> tuple[str, ...]:
    return tuple(piece if number % 2 else quoted(piece, _LITERAL + further) for number, piece in enumerate(pieces))


def _in_query(parameter: Parameter, value: object) -> str:
    pairs = query(replace(parameter, place="query", style="form", explode=False), value)
    return pairs[0][1] if pairs else ""


@dataclass(frozen=True)
class Operation:
    """One operation of a document."""

    method: str
    server: str
    template: Template
    parameters: Mapping[str, Parameter]
    """Argument -> parameter."""
    body: Body | None = None
    whole: str = ""
    """The argument that is the body; if there is none, all arguments that are no parameters are properties of the body."""
    taken: frozenset[str] = frozenset()
    """The names of the query's parameters: a free name that a model writes must be none of them."""

    def __post_init__(self) -> None:
        placed = {parameter.name for parameter in self.parameters.values() if parameter.place == "path"}
        if missing := self.template.names - placed:
            raise Unusable(f"its path has {{{min(missing)}}}, which is no parameter")
        if missing := placed - self.template.names:
            raise Unusable(f"its path parameter {min(missing)!r} does not stand in its path")

    def request(self, arguments: Mapping[str, object]) -> tuple[str, dict[str, str], bytes | None]:
        """Return the address, the headers and the body of a call; raises ``BadArguments``."""
        json_text(arguments)  # what is no JSON, such as NaN or half of a surrogate pair, has no form anywhere
        in_template: dict[str, tuple[Parameter, object]] = {}
        pairs: list[tuple[str, str]] = []
        headers: dict[str, str] = {}
        rest: dict[str, object] = {}
        for argument, value in arguments.items():
            value = plain(value)
            parameter = self.parameters.get(argument)
            if parameter is None:
                rest[argument] = value
            elif parameter.place == "path":
                in_template[parameter.name] = parameter, value
            elif parameter.place == "query":
                pairs += self._checked(parameter, query(parameter, value))
            elif (written := header(parameter, value)) is not None:
                headers[parameter.name] = written
        path, own = self.template.fill(in_template)
        asked = "&".join(filter(None, [own, *(f"{name}={value}" for name, value in pairs)]))
        address = f"{self.server}{path}" + (f"?{asked}" if asked else "")
        if len(address) > _LONGEST:
            raise BadArguments(f"the address would have {len(address)} characters; {_LONGEST} are the most")
        return address, headers, self._content(rest, headers)

    def _checked(self, parameter: Parameter, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        for name, _ in pairs:
            free = urllib.parse.unquote(name)
            if free != parameter.name and free in self.taken:
                raise BadArguments(f"{parameter.name}: {free!r} is another parameter")
        return pairs

    def _content(self, rest: Mapping[str, object], headers: dict[str, str]) -> bytes | None:
        if self.body is None or not (rest or (self.body.required and not self.whole)):
            return None
        headers["Content-Type"], content = self.body.write(rest[self.whole] if self.whole else rest)
        return content
