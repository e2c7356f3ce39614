"""``Config``: all settings of a run, in parts; saved as ``config.json`` in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.reference import FORMS, is_reference

from ..credit.schemes import CREDIT
from .parts import LearningConfig, ModelConfig, Part, RolloutConfig, RunConfig, TaskConfig, WarmStartConfig

__all__ = ["PARTS", "Config", "locate", "merged"]


class Config(Part):
    """Settings of a run.

    >>> config = Config.of(lr=1e-4, **{"model.name": "smollm2"})
    >>> config.learning.lr, config.model.name, config.replace(lr=0.0).learning.lr
    (0.0001, 'smollm2', 0.0)
    """

    task: TaskConfig = Field(default_factory=TaskConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    warm_start: WarmStartConfig = Field(default_factory=WarmStartConfig)
    rollout: RolloutConfig = Field(default_factory=RolloutConfig)
    learning: LearningConfig = Field(default_factory=LearningConfig)
    run: RunConfig = Field(default_factory=RunConfig)

    @model_validator(mode="after")
    def _check_across_parts(self) -> Self:
        rollout, learning = self.rollout, self.learning
        if learning.credit not in CREDIT and not is_reference(learning.credit):
            raise UnknownName("credit scheme", learning.credit, [*CREDIT, *FORMS])
        if rollout.episodes % rollout.group:
            raise InvalidArgument(f"episodes must be a multiple of group, got {rollout.episodes} episodes in groups of {rollout.group}")
        if rollout.constrained and rollout.max_reasoning_tokens is not None:
            raise InvalidArgument("the grammar of calls allows no reasoning: set constrained to false, or max_reasoning_tokens to null")
        if rollout.servers and rollout.constrained:
            raise InvalidArgument("servers do not know the grammar: set constrained to false")
        if rollout.overlap and not rollout.servers:
            raise InvalidArgument("only servers can play while this process learns: set servers, or overlap to 0")
        return self

    @classmethod
    def of(cls, **settings: Any) -> Config:
        """Return the defaults with some settings changed.

        Args:
            settings: By name (``lr=``), by part and name (``**{"learning.lr": …}``), or a whole part as a mapping (``learning={…}``).

        Raises:
            UnknownName: There is no such setting.
            InvalidArgument: A value is invalid; the message names its setting.
        """
        return cls.from_dict(merged({}, settings))

    def replace(self, **settings: Any) -> Config:
        """Return these settings with some changed; arguments and errors as for ``of``."""
        return self.from_dict(merged(self.as_dict(), settings))

    def as_dict(self) -> dict[str, Any]:
        """Return part -> name -> value; the values are JSON."""
        return self.model_dump()

    def flat(self) -> dict[str, Any]:
        """Return ``"learning.lr"`` -> value, for every setting."""
        return {f"{part}.{name}": value for part, values in self.as_dict().items() for name, value in values.items()}

    @classmethod
    def from_dict(cls, parts: Mapping[str, Any]) -> Config:
        """Return settings from the output of ``as_dict``; missing ones get their defaults. Errors as for ``of``."""
        settings = merged({}, parts)
        try:
            return cls.model_validate(settings)
        except ValidationError as fault:
            raise InvalidArgument(_message(fault)) from None


PARTS: dict[str, type[Part]] = {name: field.default_factory for name, field in Config.model_fields.items()}  # type: ignore[misc]  # each factory is the class
"""Name of a part -> its class."""

_PARTS_OF: dict[str, list[str]] = {}
"""Name of a setting -> the parts that have it."""
for _part, _kind in PARTS.items():
    for _name in _kind.model_fields:
        _PARTS_OF.setdefault(_name, []).append(_part)


def locate(name: str) -> tuple[str, str, list[str]]:
    """Split the name of a setting, as a user writes it, into part, name, and keys within its value.

    ``shaper.alpha`` is the keyword ``alpha`` of the shaper, that is, of ``shaper_options``; suites and algorithms likewise.

    >>> locate("lr"), locate("learning.lr"), locate("suite_options.level"), locate("shaper.alpha"), locate("model")
    (('learning', 'lr', []), ('learning', 'lr', []), ('task', 'suite_options', ['level']), ('task', 'shaper_options', ['alpha']), ('model', 'name', []))

    Raises:
        UnknownName: There is no such setting.
        InvalidArgument: Several parts have a setting of this name, or the name is that of a part.
    """
    first, *rest = name.split(".")
    if first in PARTS:
        if not rest and "name" in PARTS[first].model_fields:
            return first, "name", []  # what is called model is the model's name
        if not rest:
            raise InvalidArgument(f"{first!r} is a part of the settings; say which of them: {', '.join(f'{first}.{key}' for key in PARTS[first].model_fields)}")
        if rest[0] not in PARTS[first].model_fields:
            raise UnknownName("setting", f"{first}.{rest[0]}", [f"{first}.{key}" for key in PARTS[first].model_fields])
        return first, *_keyword(first, rest[0], rest[1:])
    parts = _PARTS_OF.get(first, [])
    if not parts:
        raise UnknownName("setting", first, _PARTS_OF)
    if len(parts) > 1:
        raise InvalidArgument(f"{first!r} is a setting of several parts; say which: {', '.join(f'{part}.{first}' for part in parts)}")
    return parts[0], *_keyword(parts[0], first, rest)


def _keyword(part: str, name: str, keys: list[str]) -> tuple[str, list[str]]:
    """Return the setting that keys belong to: those of what is chosen by name are its options."""
    options = f"{name}_options"
    return (options if keys and options in PARTS[part].model_fields else name), keys


def merged(parts: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return part -> name -> value with changes applied. A name that ends in a key within a value changes only that key.

    Args:
        parts: Part -> name -> value; not changed.
        changes: Name -> value, with names as for ``Config.of``.

    Raises:
        UnknownName: There is no such setting.
        InvalidArgument: A name is ambiguous, or a part is not a mapping.
    """
    result: dict[str, dict[str, Any]] = {part: dict(values) for part, values in parts.items()}
    for name, value in changes.items():
        if name in PARTS and isinstance(value, Mapping):
            for inner, entry in value.items():
                part, setting, keys = locate(f"{name}.{inner}")
                _put(result.setdefault(part, {}), setting, keys, entry)
            continue
        part, setting, keys = locate(name)
        _put(result.setdefault(part, {}), setting, keys, value)
    return result


def _put(values: dict[str, Any], name: str, keys: list[str], value: Any) -> None:
    if not keys:
        values[name] = value
        return
    inner = values.get(name)
    values[name] = inner = dict(inner) if isinstance(inner, Mapping) else {}
    for key in keys[:-1]:
        inner[key] = inner = dict(inner.get(key) or {})
    inner[keys[-1]] = value


def _message(fault: ValidationError) -> str:
    """Describe the first invalid value: its name, what was expected, and the value."""
    first = fault.errors(include_url=False)[0]
    if isinstance(cause := first.get("ctx", {}).get("error"), InvalidArgument):
        return str(cause)
    names = [str(key) for key in first["loc"] if str(key) in _PARTS_OF or str(key) in PARTS]
    return f"{'.'.join(names)} must be {first['msg'].removeprefix('Input should be ')}, got {first['input']!r:.200}"
