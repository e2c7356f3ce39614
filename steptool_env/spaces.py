"""The spaces: text of any length, transcripts, and tool calls whose samples are valid calls of the tools on offer."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils.shared_memory import create_shared_memory

from steptool_env.errors import InvalidArgument
from steptool_env.foreign import is_a
from steptool_env.types import Malformed, Message, ToolCall

__all__ = ["TextSpace", "ToolCallSpace", "observation_space"]

_LETTERS = string.ascii_lowercase + string.digits


class TextSpace(spaces.Space[str]):
    """All strings, Unicode included, of any length. Samples are short strings of lower-case letters and digits."""

    def __init__(self, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(shape=None, dtype=str, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        return _random_text(self.np_random)

    def contains(self, x: Any) -> bool:
        return is_a(x, str)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return "TextSpace()"


class _MessageSpace(spaces.Tuple):  # type: ignore[type-arg]  # it takes none in Gymnasium 1.0
    """``(role, content)``. Samples are ``Message`` tuples, as the environment returns them."""

    def __init__(self) -> None:
        super().__init__((TextSpace(), TextSpace()))

    def sample(self, mask: Any = None, probability: Any = None) -> Message:
        role, content = super().sample()
        return Message(role, content)


class _TranscriptSpace(spaces.Sequence):
    """A tuple of messages."""

    def __init__(self) -> None:
        super().__init__(_MessageSpace())


@create_shared_memory.register(TextSpace)
@create_shared_memory.register(_TranscriptSpace)
def _refuse_shared_memory(space: Any, n: int = 1, ctx: Any = None) -> Any:
    # Loud and at the start. Gymnasium's shared memory for its own Text space returns the first text forever.
    raise InvalidArgument(
        "shared memory cannot hold text of any length: use gym.make_vec(..., vectorization_mode='async', vector_kwargs={'shared_memory': False}), "
        "AsyncVectorEnv(..., shared_memory=False), or vectorization_mode='sync'"
    )


def observation_space() -> spaces.Dict:
    """Return the space of observations: ``messages`` (the transcript) and ``tools`` (JSON function schemas)."""
    return spaces.Dict(messages=_TranscriptSpace(), tools=TextSpace())


class ToolCallSpace(spaces.Space[dict[str, Any]]):
    """All tool calls ``{"name": str, "arguments": {…}}``.

    The space contains every well-formed call, also of a tool that is not on offer: what is wrong with a call is for
    the environment to say, in an observation. ``sample`` draws a *valid* call: a tool on offer, with arguments from its
    JSON schema; text arguments are drawn from the values that the transcript has shown, where there are some. Samples
    do not look at ``pattern``, ``not``, ``contains`` and the conditional keywords.

    Args:
        schemas: Name of a tool on offer -> JSON schema of its arguments.
        seed: Seeds the samples.
    """

    def __init__(self, schemas: Mapping[str, Mapping[str, Any]] | None = None, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(shape=None, dtype=None, seed=seed)
        self._schemas: dict[str, Mapping[str, Any]] = {}
        self._transcript: tuple[Message, ...] = ()
        self.offer(schemas or {})

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def offer(self, schemas: Mapping[str, Mapping[str, Any]], transcript: tuple[Message, ...] = ()) -> None:
        """Set the tools that samples call and the transcript from which they take their values."""
        self._schemas = dict(schemas)
        self._transcript = transcript

    def see(self, transcript: tuple[Message, ...]) -> None:
        """Set the transcript only; constant time."""
        self._transcript = transcript

    def sample(self, mask: Any = None, probability: Any = None) -> dict[str, Any]:
        if not self._schemas:  # a space that no environment has filled yet
            return {"name": _random_text(self.np_random), "arguments": {}}
        names = list(self._schemas)
        name = names[int(self.np_random.integers(len(names)))]
        draw = _Sampler(self.np_random, _values(self._transcript), self._schemas[name])
        return {"name": name, "arguments": draw.arguments()}

    def contains(self, x: Any) -> bool:
        if is_a(x, (ToolCall, Malformed)):
            return True
        try:
            name, arguments = x["name"], x["arguments"]
            return is_a(x, Mapping) and len(x) == 2 and is_a(name, str) and is_a(arguments, Mapping) and all(is_a(key, str) for key in arguments)
        except KeyboardInterrupt:
            raise
        except BaseException:  # a foreign mapping may do anything
            return False

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return "ToolCallSpace()"


def _random_text(rng: np.random.Generator) -> str:
    return "".join(_LETTERS[i] for i in rng.integers(len(_LETTERS), size=int(rng.integers(1, 9))))


def _values(transcript: Iterable[Message]) -> list[str]:
    """Words of the instruction and scalar values of JSON results: what a call could sensibly pass on."""
    seen: dict[str, None] = {}
    for role, content in transcript:
        if role == "user":
            seen.update(dict.fromkeys(word.strip(".,;:!?\"'()") for word in content.split()))
        elif role == "tool":
            try:
                _scalars(json.loads(content), seen)
            except (ValueError, RecursionError):
                seen[content[:200]] = None
    seen.pop("", None)
    return list(seen)


def _scalars(value: Any, seen: dict[str, None], depth: int = 0) -> None:
    if depth > 20:
        return
    if isinstance(value, dict):
        for item in value.values():
            _scalars(item, seen, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _scalars(item, seen, depth + 1)
    elif isinstance(value, str):
        seen[value] = None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seen[str(value)] = None


_DEEP = 8
"""From this depth on a sample takes the shortest way out: no optional properties, no more items than it must."""
_FORMATS: dict[str, Callable[[int], str]] = {
    "date": lambda n: f"2024-{n % 12 + 1:02}-{n % 28 + 1:02}",
    "date-time": lambda n: f"2024-{n % 12 + 1:02}-{n % 28 + 1:02}T{n % 24:02}:{n % 60:02}:00Z",
    "time": lambda n: f"{n % 24:02}:{n % 60:02}:00Z",
    "duration": lambda n: f"P{n % 30}D",
    "email": lambda n: f"user{n}@example.org",
    "uri": lambda n: f"https://example.org/{n}",
    "uuid": lambda n: f"00000000-0000-4000-8000-{n:012d}",
    "ipv4": lambda n: f"192.0.2.{n % 256}",
}


class _Sampler:
    """Draws values from a JSON schema; optional properties are left out half of the time."""

    def __init__(self, rng: np.random.Generator, values: list[str], root: Mapping[str, Any]) -> None:
        self.rng, self.values, self.root = rng, values, root

    def arguments(self) -> dict[str, Any]:
        drawn = self.value({**self.root, "type": "object"})
        return drawn if isinstance(drawn, dict) else {}

    def pick(self, items: Sequence[Any]) -> Any:
        return items[int(self.rng.integers(len(items)))]

    def value(self, schema: Any, depth: int = 0) -> Any:
        if not isinstance(schema, Mapping):  # the schemas true and false
            schema = {}
        if depth > 8 * _DEEP:  # a schema that refers to itself without end has no value
            return None
        if "$ref" in schema:
            return self.value(_merge(_without(schema, "$ref"), self.resolve(schema["$ref"])), depth + 1)
        if "allOf" in schema:
            merged = _without(schema, "allOf")
            for part in schema["allOf"]:
                merged = _merge(merged, part)
            return self.value(merged, depth + 1)
        for union in ("anyOf", "oneOf"):
            if union in schema:
                branches = schema[union]
                if depth > _DEEP:
                    branches = [part for part in branches if isinstance(part, Mapping) and part.get("type") not in ("object", "array", None)] or branches
                return self.value(_merge(_without(schema, union), self.pick(branches)), depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.pick(schema["enum"])
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = self.pick(kind)
        match kind:
            case "integer":
                return self.integer(schema)
            case "number":
                return self.number(schema)
            case "boolean":
                return bool(self.rng.random() < 0.5)
            case "null":
                return None
            case "array":
                return self.array(schema, depth)
            case "object":
                return self.object(schema, depth)
        return self.text(schema)

    def resolve(self, reference: str) -> Any:
        """Follow a JSON pointer into the schema, such as ``#/$defs/Address``."""
        node: Any = self.root
        for part in reference.lstrip("#").split("/")[1:]:
            node = node.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(node, Mapping) else {}
        return node

    def object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties, required, further = schema.get("properties", {}), schema.get("required", ()), schema.get("additionalProperties", True)
        drawn = {name: self.value(inner, depth + 1) for name, inner in properties.items() if name in required or (depth < _DEEP and self.rng.random() < 0.5)}
        for name in required:
            if name not in drawn:
                drawn[name] = self.value(further, depth + 1)
        for name, inner in properties.items():
            if len(drawn) < schema.get("minProperties", 0) and name not in drawn:
                drawn[name] = self.value(inner, depth + 1)
        while len(drawn) < schema.get("minProperties", 0) and further is not False:
            drawn[_random_text(self.rng)] = self.value(further, depth + 1)
        return drawn

    def array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first, items = schema.get("prefixItems", ()), schema.get("items", True)
        low = int(schema.get("minItems", 0))
        high = max(low, int(schema.get("maxItems", max(low + 2, len(first)))))
        if items is False:
            high = max(low, min(high, len(first)))
        size = low if depth > _DEEP else int(self.rng.integers(low, high + 1))
        drawn: list[Any] = []
        seen: set[str] = set()
        for _ in range(100 * size):  # many tries, for items that must differ and come from a small set
            if len(drawn) == size:
                break
            item = self.value(first[len(drawn)] if len(drawn) < len(first) else items, depth + 1)
            key = json.dumps(item, sort_keys=True)
            if key not in seen or not schema.get("uniqueItems"):
                seen.add(key)
                drawn.append(item)
        return drawn

    def text(self, schema: Mapping[str, Any]) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]](int(self.rng.integers(10_000)))
        low, high = int(schema.get("minLength", 0)), int(schema.get("maxLength", 1 << 30))
        fitting = [value for value in self.values if low <= len(value) <= high]
        if fitting and self.rng.random() < 0.9:
            return str(self.pick(fitting))
        return (_random_text(self.rng) + "x" * low)[:high]

    def integer(self, schema: Mapping[str, Any]) -> int:
        # An integer is a multiple of p/q exactly if it is a multiple of p.
        step = Fraction(str(schema.get("multipleOf", 1))).numerator
        low, high = _bounds(schema)
        first, last = math.ceil(low / step), math.floor(high / step)
        if "exclusiveMinimum" in schema and first * step <= schema["exclusiveMinimum"]:
            first += 1
        if "exclusiveMaximum" in schema and last * step >= schema["exclusiveMaximum"]:
            last -= 1
        return (first + self.below(last - first + 1)) * step

    def number(self, schema: Mapping[str, Any]) -> float:
        if "multipleOf" in schema:
            step = Fraction(str(schema["multipleOf"]))
            scaled = {key: Fraction(str(schema[key])) / step for key in _LIMITS if key in schema}
            return float(self.integer(scaled) * step)
        low, high = map(float, _bounds(schema))
        drawn = low + (high - low) * (0.25 + 0.5 * float(self.rng.random()))  # well inside: the bounds may be exclusive
        short = round(drawn, 3)
        return short if low < short < high else drawn

    def below(self, count: int) -> int:
        """Return an integer in ``range(count)``, 0 if that is empty; bounds beyond 64 bits are fine."""
        return int(self.rng.integers(min(max(count, 1), 1 << 62)))


_LIMITS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


def _bounds(schema: Mapping[str, Any]) -> tuple[Fraction, Fraction]:
    """Return the range of a number; 0 to 100, or 100 wide, where the schema leaves it open."""
    lows = [Fraction(str(schema[key])) for key in _LIMITS[:2] if key in schema]
    highs = [Fraction(str(schema[key])) for key in _LIMITS[2:] if key in schema]
    if lows:
        low = max(lows)
        return low, min(highs) if highs else low + 100
    if highs:
        high = min(highs)
        return (Fraction(0) if high > 0 else high - 100), high
    return Fraction(0), Fraction(100)


def _without(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}


def _merge(schema: Mapping[str, Any], override: Any) -> dict[str, Any]:
    """Return the schema that asks for both; where both set a keyword, ``override`` decides."""
    if not isinstance(override, Mapping):
        return dict(schema)
    merged = {**schema, **override}
    if "properties" in schema and "properties" in override:
        merged["properties"] = {**schema["properties"], **override["properties"]}
    if "required" in schema and "required" in override:
        merged["required"] = [*schema["required"], *override["required"]]
    return merged
