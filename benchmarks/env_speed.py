"""How fast is the bare environment? Beside its peers on a tool that does nothing, on ``worlds``, and as episodes get long.

    python benchmarks/env_speed.py                 # peers, levels 1 to 5, long episodes
    python benchmarks/env_speed.py 3 --json        # one level; one JSON object
    pip install --no-deps gem-llm skyrl-gym        # brings in the peers; without them they are left out

Four tables, one core, processor time, medians of the repeats:

- *A tool that returns a word.* Every environment parses or takes one call, runs the same tool, and returns an observation.
  The bare Gymnasium environment takes a number and returns one: what the interface itself costs. The peers are written as
  their own examples are: a tool behind ``ToolEnvWrapper`` (gem-llm), a ``ToolGroup`` behind ``BaseTextEnv`` (skyrl-gym).
- *worlds*: the oracle's episodes. "over the tool" is what a step costs beside ``toolkit.execute`` of the same calls.
- *over the raw tool*: each step against the bare Python function behind its tool, called directly; the median of all steps.
- *Long episodes*: the same call 200 times; the cost of the first and of the last twenty steps.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import re
import statistics
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import gymnasium as gym

import steptool_env
from steptool_env import Episode, Outcome, Task, TaskSuite, ToolCall, Toolkit, tool

CLOCK = time.process_time  # what other processes take of the core does not count
LENGTH = 10
"""Steps of an episode with the tool that does nothing."""


# ---------------------------------------------------------------- a tool that returns a word
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


def _ours(name: str, action: Any) -> Callable[[], tuple[Callable[[], Any], Callable[[], Any]]]:
    env = gym.make(name, suite=Idle(), disable_env_checker=True)
    return lambda: (lambda: env.reset(seed=0), lambda: env.step(action))


def _bare() -> tuple[Callable[[], Any], Callable[[], Any]]:
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


def _gem() -> tuple[Callable[[], Any], Callable[[], Any]]:
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


def _skyrl() -> tuple[Callable[[], Any], Callable[[], Any]]:
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


CALL = {"name": "look", "arguments": {"query": "here"}}
PLAYERS: dict[str, Callable[[], tuple[Callable[[], Any], Callable[[], Any]]]] = {
    "bare Gymnasium environment": _bare,
    "skyrl-gym, text": _skyrl,
    "gem-llm, text": _gem,
    "StepTool-v0": _ours("StepTool-v0", CALL),
    "StepToolText-v0, hermes": _ours("StepToolText-v0", steptool_env.make_format("hermes").render(ToolCall("look", {"query": "here"}))),
}


def compare(episodes: int, repeats: int) -> list[dict[str, Any]]:
    """Return the figures of every environment that is installed."""
    rows = []
    for name, make in PLAYERS.items():
        try:
            reset, step = make()
        except ImportError as fault:
            rows.append({"environment": name, "missing": str(fault)})
            continue
        times = []
        for _ in range(repeats + 1):  # the first one fills caches
            spent = 0.0
            for _ in range(episodes):
                reset()
                start = CLOCK()
                for _ in range(LENGTH):
                    step()
                spent += CLOCK() - start
            times.append(spent / (episodes * LENGTH))
        rows.append({"environment": name, "us_per_step": round(1e6 * statistics.median(times[1:]), 2)})
    return rows


# ---------------------------------------------------------------- worlds
def measure(level: int, episodes: int, repeats: int) -> dict[str, Any]:
    """Return the figures of one level."""
    env = gym.make("StepTool-v0", suite="worlds", level=level).unwrapped
    assert isinstance(env, steptool_env.StepToolEnv)
    _play(env, episodes)  # once without a clock: caches fill
    steps, resets, tools = zip(*(_play(env, episodes) for _ in range(repeats)), strict=True)
    step, reset, bare = (statistics.median(times) for times in (steps, resets, tools))
    return {
        "level": level,
        "steps_per_second": round(1 / step),
        "us_per_step": round(1e6 * step, 2),
        "us_over_the_tool": round(1e6 * (step - bare), 2),
        "median_us_over_the_raw_tool": round(1e6 * _over_the_raw_tool(env, episodes // 4), 2),
        "us_per_reset": round(1e6 * reset, 1),
    }


def _play(env: steptool_env.StepToolEnv, episodes: int) -> tuple[float, float, float]:
    """Return seconds per step, per reset, and per bare execution of a tool."""
    stepping = resetting = executing = 0.0
    count = 0
    for task in range(episodes):
        start = CLOCK()
        env.reset(options={"task": task})
        resetting += CLOCK() - start
        calls = env.solution()
        actions = [call.as_dict() for call in calls]
        count += len(calls)
        start = CLOCK()
        for action in actions:
            env.step(action)
        stepping += CLOCK() - start
        toolkit = env.suite.toolkit(env.task)
        start = CLOCK()
        for call in calls:
            toolkit.execute(call)
        executing += CLOCK() - start
    return stepping / count, resetting / episodes, executing / count


def _over_the_raw_tool(env: steptool_env.StepToolEnv, episodes: int) -> float:
    """Return the median over all steps of: seconds of ``env.step``, less those of the Python function behind the tool."""
    clock = time.perf_counter  # fine enough for one step; the median is deaf to interruptions
    differences = []
    for task in range(episodes):
        env.reset(options={"task": task})
        twin = env.suite.toolkit(env.task)
        for call in env.solution():
            one, arguments = twin[call.name], dict(call.arguments)
            action = {"name": call.name, "arguments": arguments}
            start = clock()
            env.step(action)
            middle = clock()
            if one.stateful:
                one.function(twin.state, **arguments)
            else:
                one.function(**arguments)
            differences.append((middle - start) - (clock() - middle))
    return statistics.median(differences)


def long_episode(repeats: int) -> dict[str, float]:
    """Return the median cost of a step at the beginning and at the end of an episode of 200 steps, in microseconds."""
    env = gym.make("StepTool-v0", suite=Idle(), max_steps=200).unwrapped
    clock = time.perf_counter
    first: list[float] = []
    last: list[float] = []
    for _ in range(max(20, 4 * repeats)):
        env.reset(seed=0)
        times = []
        for _ in range(200):
            start = clock()
            env.step(CALL)
            times.append(clock() - start)
        first += times[5:25]
        last += times[179:199]
    return {"us_steps_6_to_25": round(1e6 * statistics.median(first), 2), "us_steps_180_to_199": round(1e6 * statistics.median(last), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("levels", type=int, nargs="*", default=[1, 2, 3, 4, 5], metavar="LEVEL", help="levels of worlds (default: 1 to 5)")
    parser.add_argument("--episodes", type=int, default=1000, help="episodes per repeat (default: 1000)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of which the median counts (default: 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    rows = [measure(level, arguments.episodes, arguments.repeats) for level in arguments.levels]
    lengths = long_episode(arguments.repeats)
    peers = compare(arguments.episodes, arguments.repeats)  # last: it leaves the peers' modules behind
    if arguments.json:
        shared = {"benchmark": "env_speed", "episodes": arguments.episodes, "repeats": arguments.repeats}
        print(json.dumps({**shared, "results": rows, "peers": peers, "long_episodes": lengths}))
        return
    print("a tool that returns a word          µs/step   steps/s")
    for row in peers:
        figures = f"{row['us_per_step']:>9.2f} {1e6 / row['us_per_step']:>9,.0f}" if "us_per_step" in row else f"  left out: {row['missing']}"
        print(f"{row['environment']:<33} {figures}")
    print("\nworlds  steps/s   µs/step   over the tool   over the raw tool, median   µs/reset")
    for row in rows:
        figures = f"{row['steps_per_second']:>9,} {row['us_per_step']:>9.1f} {row['us_over_the_tool']:>15.1f}"
        print(f"{row['level']:>5} {figures} {row['median_us_over_the_raw_tool']:>27.1f} {row['us_per_reset']:>10.1f}")
    print(f"\nepisode of 200 steps: {lengths['us_steps_6_to_25']} µs a step at its beginning, {lengths['us_steps_180_to_199']} µs at its end")


if __name__ == "__main__":
    main()
