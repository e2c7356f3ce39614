"""Which setting wins: the one place that says so.

    defaults  <  algorithm  <  preset of model and suite  <  the run that a run begins from  <  file  <  options  <  --set

Within the layers that a user writes, the last one wins, too.
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
    """What people call it, such as ``"--set"``."""
    settings: Mapping[str, Any]
    """Names as for ``Config.of``."""


class Configured(NamedTuple):
    """Settings, and where those come from that are no defaults."""

    config: Config
    sources: dict[str, str]
    """``"learning.lr"`` -> the source of the layer that set it last."""


def configure(layers: Sequence[Layer], settings_of: Callable[[str], Mapping[str, Any]]) -> Configured:
    """Return the settings that layers make.

    Args:
        layers: What the user has written, the strongest last.
        settings_of: From the name of an algorithm to what it sets differently.

    Raises:
        UnknownName: There is no such setting or algorithm.
        InvalidArgument: A value does not fit.
    """
    said: dict[str, Any] = {}
    for layer in layers:
        said = merged(said, layer.settings)
    known = merged(Config().as_dict(), said)
    algo, model, suite = known["learning"]["algo"], known["model"]["name"], known["task"]["suite"]
    level = said.get("task", {}).get("suite_options", {}).get("level")
    algorithm = dict(settings_of(algo))
    below = [
        Layer(f"algorithm {algo}", algorithm),
        Layer(f"preset for {model} on {suite}", preset(model, suite, level, algorithm.get("group", 1))),
    ]
    parts, sources = Config().as_dict(), {}
    for layer in [*below, *layers]:
        parts = merged(parts, layer.settings)
        for path in _paths(layer.settings):
            sources[path] = layer.source
    config, defaults = Config.from_dict(parts), Config().flat()
    return Configured(config, {path: source for path, source in sources.items() if config.flat()[path] != defaults[path]})


def _paths(settings: Mapping[str, Any]) -> list[str]:
    return [f"{part}.{name}" for part, values in merged({}, settings).items() for name in values]
