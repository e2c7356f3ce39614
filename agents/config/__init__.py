"""Settings of a run, in parts: task, model, warm start, rollout, learning, run."""

from __future__ import annotations

from .config import Config
from .parts import LearningConfig, ModelConfig, RolloutConfig, RunConfig, TaskConfig, WarmStartConfig
from .precedence import Layer, configure
from .presets import CHAINS, preset

__all__ = [
    "CHAINS",
    "Config",
    "Layer",
    "LearningConfig",
    "ModelConfig",
    "RolloutConfig",
    "RunConfig",
    "TaskConfig",
    "WarmStartConfig",
    "configure",
    "preset",
]
