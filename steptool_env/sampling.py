"""``Sampler``: random values that a JSON schema allows, small ones: what the action space's samples are made of."""

from __future__ import annotations

import functools
import json
import math
import random
import re
import string
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import jsonschema_rs
import numpy as np
import rstr

__all__ = ["Sampler", "random_text"]

_LETTERS = string.ascii_lowercase + string.digits


def random_text(rng: np.random.Generator) -> str:
    """Return 1 to 8 lower-case letters and digits."""
    return "".join(_LETTERS[i] for i in rng.integers(len(_LETTERS), size=int(rng.integers(1, 9))))


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


@functools.lru_cache(maxsize=1024)
def _matcher(pattern: str) -> Callable[[str], bool]:
    """Return what says whether a text matches, as the check of arguments does; a pattern that is none matches everything."""
    try:
        return jsonschema_rs.validator_for({"pattern": pattern}).is_valid
    except ValueError:
        return lambda text: True


def _python(pattern: str) -> str:
    """Return a pattern of JSON Schema's dialect, which is JavaScript's, as one of Python's that matches about the same."""
    return re.sub(r"\\[pP]\{[^}]*\}", r"\\w", pattern).replace("(?<", "(?P<").replace("(?P<=", "(?<=").replace("(?P<!", "(?<!")


class _FromPattern(rstr.Rstr):
    """Draws texts from patterns; the same ones in every process, and short ones."""

    spread = 4
    """Most repeats beyond those that must be."""

    def _handle_in(self, value: Any) -> Any:
        candidates = [char for part in value for char in self._handle_state(part)]
        if candidates[0] is False:  # all but these; as a set they would come in the order of their hashes
            candidates = [char for char in string.printable if char not in candidates[1:]]
        return self._random.choice(candidates)

    def _handle_repeat(self, start_range: int, end_range: int, value: Any) -> str:
        times = self._random.randint(start_range, min(int(end_range), start_range + self.spread))
        return "".join(self._handle_state(part) for _ in range(times) for part in value)


class Sampler:
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
            name = random_text(self.rng)
            named = [inner for pattern, inner in schema.get("patternProperties", {}).items() if _matcher(pattern)(name)]
            drawn[name] = self.value(named[0] if named else further, depth + 1)
        return drawn

    def array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first, items = schema.get("prefixItems", ()), schema.get("items", True)
        low = int(schema.get("minItems", 0))
        high = max(low, min(int(schema.get("maxItems", max(low + 2, len(first)))), max(low, len(first)) + 5))
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
        low, high = int(schema.get("minLength", 0)), int(schema.get("maxLength", 1 << 30))
        fits = _matcher(schema["pattern"]) if isinstance(schema.get("pattern"), str) else None
        if schema.get("format") in _FORMATS:
            drawn = _FORMATS[schema["format"]](int(self.rng.integers(10_000)))
            if fits is None or fits(drawn):
                return drawn
        fitting = [value for value in self.values if low <= len(value) <= high and (fits is None or fits(value))]
        if fitting and self.rng.random() < 0.9:
            return str(self.pick(fitting))
        if fits is not None and (found := self.matching(schema["pattern"], lambda text: low <= len(text) <= high and fits(text), high)) is not None:
            return found
        return (random_text(self.rng) + "x" * low)[:high]

    def matching(self, pattern: str, fits: Callable[[str], bool], longest: int) -> str | None:
        """Return a text that matches a pattern and is short, if a few tries find one that fits."""
        draw = _FromPattern(random.Random(int(self.rng.integers(1 << 62))))
        tail = random_text(self.rng)  # a pattern may say how a text begins and no more
        for spread in (4,) * 10 + (20,) * 10 + (100,) * 20:
            draw.spread = spread
            try:
                text = draw.xeger(_python(pattern))
            except (re.error, LookupError, TypeError, ValueError, OverflowError, RecursionError):  # a dialect that the library does not know
                return None
            for drawn in (text + tail, text, text[:longest]):
                if fits(drawn):
                    return drawn
        return None

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


def _merge(schema: Any, override: Any) -> dict[str, Any]:
    """Return the schema that asks for both; where both set a keyword, ``override`` decides."""
    if not isinstance(override, Mapping) or not isinstance(schema, Mapping):
        return dict(override if isinstance(override, Mapping) else schema if isinstance(schema, Mapping) else {})
    merged = {**schema, **override}
    if "properties" in schema and "properties" in override:
        both = {name: _merge(inner, override["properties"][name]) for name, inner in schema["properties"].items() if name in override["properties"]}
        merged["properties"] = {**schema["properties"], **override["properties"], **both}
    if "required" in schema and "required" in override:
        merged["required"] = [*schema["required"], *override["required"]]
    return merged
