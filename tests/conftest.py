"""What many tests share. Nothing here imports torch, so that the tests of the environment start at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import pytest
from hypothesis import HealthCheck, settings

import steptool_env

# Set before anything imports them: no test asks a model hub, opens a window, or forks a tokenizer.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# No deadline: machines differ. CI draws the same examples every time; at home, every run looks somewhere else.
# 50 examples of a property suffice to notice a change; who has changed a property draws more.
examples = int(os.environ.get("STEPTOOL_EXAMPLES", "50"))
settings.register_profile("home", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=examples)
settings.register_profile("ci", settings.get_profile("home"), derandomize=True, print_blob=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "home")


@pytest.fixture
def make_env() -> Iterator[Callable[..., steptool_env.StepToolEnv]]:
    """Return a function that makes ``StepTool-v0``, unwrapped, and closes what it made at the end of the test."""
    made: list[gym.Env[Any, Any]] = []

    def make(**options: Any) -> steptool_env.StepToolEnv:
        made.append(gym.make("StepTool-v0", **options))
        inner = made[-1].unwrapped
        assert isinstance(inner, steptool_env.StepToolEnv)
        return inner

    yield make
    for env in made:
        env.close()
