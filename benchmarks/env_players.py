"""The environments that ``env_speed.py`` and ``step_parts.py`` time: each runs one tool that returns a word, and does nothing else.

The bare Gymnasium environment takes a number and returns one: what the interface itself costs. The peers are written as their own
examples are: a tool behind ``ToolEnvWrapper`` (gem-llm), a ``ToolGroup`` behind ``BaseTextEnv`` (skyrl-gym).
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import types
from collections.abc import Callable
from typing import Any

import gymnasium as gym

import steptool_env
from steptool_env import Episode, Outcome, Task, TaskSuite, ToolCall, Toolkit, tool

__all__ = ["CALL", "PLAYERS", "TEXT", "Idle", "Player"]

Player = tuple[Callable[[], object], Callable[[], object]]
"""What starts an episode, and what makes a step."""

@tool(timeout=None)
def look(query: str) -> str:
    """Look something up.

    Args:
        query: What to look up.
    """
    return "word"


class Idle(TaskSuite):
    """One task, one tool; nobody finishes it."""

    name: str = "idle"

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Task:
        if index:
            raise IndexError(index)
        return Task("idle", "Look around.", ("look", "finish"), 1000)

    def toolkit(self, task: Task) -> Toolkit:
        return Toolkit([look])

    def grade(self, task: Task, episode: Episode) -> Outcome:
        return Outcome(0.0)


class Bare(gym.Env[int, int]):
    """The interface and nothing else."""

    observation_space = gym.spaces.Discrete(2)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return 0, 0.0, False, False, {}


CALL = {"name": "look", "arguments": {"query": "here"}}
TEXT = steptool_env.make_format("hermes").render(ToolCall("look", {"query": "here"}))
"""The same call, as a model writes it."""


def _ours(name: str, action: Any) -> Callable[[], Player]:
    env = gym.make(name, suite=Idle(), disable_env_checker=True)
    return lambda: (lambda: env.reset(seed=0), lambda: env.step(action))


def _bare() -> Player:
    env = gym.wrappers.OrderEnforcing(Bare())
    return lambda: env.reset(seed=0), lambda: env.step(1)


def _package(name: str) -> Any:
    """Import a package without its ``__init__``, which imports data sets and services that no step needs."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(name)
    package = types.ModuleType(name)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = package
    return package


def _gem() -> Player:
    _package("gem")
    core, wrapper, base = (importlib.import_module(f"gem.{name}") for name in ("core", "tools.tool_env_wrapper", "tools.base_tool"))

    class Quiet(core.Env):  # type: ignore[misc,name-defined]
        def reset(self, seed: int | None = None) -> tuple[str, dict[str, Any]]:
            super().reset(seed)
            return "Look around.", {}

        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
            return "", 0.0, True, False, {}

    class Look(base.BaseTool):  # type: ignore[misc,name-defined]
        def instruction_string(self) -> str:
            return "Use <look>query</look>."

        def execute_action(self, action: str) -> tuple[bool, bool, str, str]:
            found = re.search(r"<look>(.*?)</look>", action, re.DOTALL)
            if not found:
                return False, True, "", ""
            return True, False, f"\n<information>{look.function(query=found[1])}</information>\n", action[: found.end()]

    env = wrapper.ToolEnvWrapper(Quiet(), [Look()], max_tool_uses=None)
    return lambda: env.reset(), lambda: env.step("<look>here</look>")


def _skyrl() -> Player:
    package = _package("skyrl_gym")
    package.Env = importlib.import_module("skyrl_gym.core").Env
    for inner in ("envs", "tools"):
        folder = types.ModuleType(f"skyrl_gym.{inner}")
        folder.__path__ = [f"{path}/{inner}" for path in package.__path__]
        sys.modules[f"skyrl_gym.{inner}"] = folder
    base, tools = importlib.import_module("skyrl_gym.envs.base_text_env"), importlib.import_module("skyrl_gym.tools.core")

    class Group(tools.ToolGroup):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__("Group")

        @tools.tool  # type: ignore[untyped-decorator,unused-ignore]
        def look(self, query: str) -> str:
            return str(look.function(query=query))

    class Text(base.BaseTextEnv):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.init_tool_groups([Group()])
            self.history: list[dict[str, str]] = []

        def init(self, prompt: Any) -> Any:
            self.turns, self.history = 0, []
            return super().init(prompt)

        def step(self, action: str) -> Any:
            self.turns += 1
            self.history.append({"role": "assistant", "content": action})
            found = re.search(r"<look>(.*?)</look>", action, re.DOTALL)
            answer = {"role": "user", "content": f"\n<information>{self._execute_tool('Group', 'look', [found[1] if found else None])}</information>\n"}
            self.history.append(answer)
            return base.BaseTextEnvStepOutput(observations=[answer], reward=0.0, done=False, metadata={"tool_name": "look"})

    env = Text()
    return lambda: env.init([{"role": "user", "content": "Look around."}]), lambda: env.step("<look>here</look>")


PLAYERS: dict[str, Callable[[], Player]] = {
    "bare Gymnasium environment": _bare,
    "skyrl-gym, text": _skyrl,
    "gem-llm, text": _gem,
    "StepTool-v0": _ours("StepTool-v0", CALL),
    "StepToolText-v0, hermes": _ours("StepToolText-v0", TEXT),
}
"""Name -> what makes a player. The peers leave modules of theirs behind, and raise ``ImportError`` where they are not installed."""
