"""The precedence of settings from different sources, defined only here.

defaults  <  algorithm  <  preset of model and suite  <  run given by --from  <  file  <  options  <  --set
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .config import Config, merged
from .presets import preset

__all__ = ["Configured", "Layer", "configure"]


class Layer(NamedTuple):
    """Settings from one source."""

    source: str
    """Name of the source for messages, such as ``"--set"``."""
    settings: Mapping[str, Any]
    """Names as for ``Config.of``."""


class Configured(NamedTuple):
    """Settings, and the sources of those that differ from the defaults."""

    config: Config
    sources: dict[str, str]
    """``"learning.lr"`` -> the source of the layer that set it last."""


def configure(layers: Sequence[Layer], settings_of: Callable[[str], Mapping[str, Any]]) -> Configured:
    """Combine layers of settings.

    Args:
        layers: The user's settings, in ascending precedence.
        settings_of: From the name of an algorithm to its settings that differ from the defaults.

    Raises:
        UnknownName: There is no such setting or algorithm.
        InvalidArgument: A value is invalid.
    """
    user_settings: dict[str, Any] = {}
    for layer in layers:
        user_settings = merged(user_settings, layer.settings)
    combined = merged(Config().as_dict(), user_settings)
    algo, model, suite = combined["learning"]["algo"], combined["model"]["name"], combined["task"]["suite"]
    options = user_settings.get("task", {}).get("suite_options")
    level = options.get("level") if isinstance(options, Mapping) else None  # of another kind: refused below
    algorithm = dict(settings_of(algo))
    base_layers = [
        Layer(f"algorithm {algo}", algorithm),
        Layer(f"preset for {model} on {suite}", preset(model, suite, level, algorithm.get("group", 1))),
    ]
    parts, sources = Config().as_dict(), {}
    for layer in [*base_layers, *layers]:
        parts = merged(parts, layer.settings)
        for path in _paths(layer.settings):
            sources[path] = layer.source
    config, defaults = Config.from_dict(parts), Config().flat()
    return Configured(config, {path: source for path, source in sources.items() if config.flat()[path] != defaults[path]})


def _paths(settings: Mapping[str, Any]) -> list[str]:
    return [f"{part}.{name}" for part, values in merged({}, settings).items() for name in values]
