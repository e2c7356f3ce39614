from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy import Counting

from steptool_env import Malformed, Outcome, StepToolEnv, Task, ToolCall, ToolResult, Transition, make_shaper
from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.rewards import Final, StepTool

TASK = Task("t", "Do it.", ("finish",), 9)
GOOD, BAD = ToolResult("ok"), ToolResult("Error: no", "bad_arguments")


def step(result: ToolResult = GOOD, gain: tuple[float, float] = (0.0, 0.0), outcome: Outcome | None = None) -> Transition:
    return Transition(TASK, 0, ToolCall("f"), result, outcome is not None, False, outcome, gain[1], gain[0])


@pytest.mark.parametrize(
    ("last", "solved"),
    [
        (step(), 0.0),
        (step(BAD), 0.0),
        (step(gain=(0.0, 1.0)), 0.0),
        (step(outcome=Outcome(0.0)), 0.0),
        (step(outcome=Outcome(0.25)), 0.25),
        (step(outcome=Outcome(1.0)), 1.0),
    ],
)
def test_final_is_the_verdict(last: Transition, solved: float) -> None:
    assert Final()([step(), last]) == {"solved": solved}


@pytest.mark.parametrize(
    ("last", "parts"),
    [
        # r = 0.1 SC + 0.5 (progress after - progress before) + IsSolved, with SC = 0 for a success and -1 for a failure
        (step(), {"sc": 0.0, "con": 0.0, "solved": 0.0}),
        (step(BAD), {"sc": -0.1, "con": 0.0, "solved": 0.0}),
        (step(gain=(0.25, 0.75)), {"sc": 0.0, "con": 0.25, "solved": 0.0}),
        (step(gain=(0.75, 0.25)), {"sc": 0.0, "con": -0.25, "solved": 0.0}),
        (step(gain=(1.0, 1.0), outcome=Outcome(1.0)), {"sc": 0.0, "con": 0.0, "solved": 1.0}),
        (step(BAD, gain=(0.5, 0.0), outcome=Outcome(0.5)), {"sc": -0.1, "con": -0.25, "solved": 0.5}),
    ],
)
def test_steptool_by_hand(last: Transition, parts: dict[str, float]) -> None:
    assert StepTool()([step(), last]) == pytest.approx(parts)


def test_the_weights_of_steptool() -> None:
    assert StepTool(alpha=2.0, beta=3.0)([step(BAD, gain=(0.0, 0.5))]) == {"sc": -2.0, "con": 1.5, "solved": 0.0}
    assert make_shaper("steptool", alpha=2.0)([step(BAD)])["sc"] == -2.0


def test_a_function_by_reference_is_the_shaper_or_what_makes_it(tmp_path: Path) -> None:
    (tmp_path / "prices.py").write_text(
        "def thrifty(episode):\n    return {'call': -0.5}\n"
        "def priced(price=0.25):\n    return lambda episode: {'call': -price}\n"
        "def strict(price):\n    return lambda episode: {'call': -price}\n"
    )
    place = f"{tmp_path / 'prices.py'}:"
    assert make_shaper(f"{place}thrifty")([step(BAD)]) == {"call": -0.5}
    assert make_shaper(f"{place}priced")([step(BAD)]) == {"call": -0.25}
    assert make_shaper(f"{place}priced", price=1.0)([step(BAD)]) == make_shaper(f"{place}strict", price=1.0)([step(BAD)]) == {"call": -1.0}


def test_make_shaper() -> None:
    assert isinstance(make_shaper("final"), Final)
    mine = Final()
    assert make_shaper(mine) is mine
    with pytest.raises(UnknownName, match="Did you mean 'steptool'"):
        make_shaper("step-tool")
    with pytest.raises(UnknownName, match="Did you mean 'alpha'"):
        make_shaper("steptool", alpa=1.0)
    with pytest.raises(InvalidArgument, match="missing a required argument: 'endpoint'"):
        make_shaper("paper-judge")
    with pytest.raises(InvalidArgument, match="made already"):
        make_shaper(mine, alpha=1.0)
    assert isinstance(make_shaper("steptool_env.rewards.final:Final"), Final)
    for name in ("steptool_env.rewards.final:Fnal", "no_such_module:Final", "steptool_env.rewards.final:__doc__"):
        with pytest.raises(InvalidArgument, match=name):
            make_shaper(name)
    with pytest.raises(InvalidArgument, match="got 3"):
        make_shaper(3)  # type: ignore[arg-type]


# ---------------------------------------------------------------- no farming
Policy = Callable[[StepToolEnv, int], Any]


def oracle(env: StepToolEnv, step: int) -> Any:
    return env.solution()[0]


def detour(env: StepToolEnv, step: int) -> Any:
    """Solve, after as many useless calls as the budget allows."""
    left = env.task.max_steps - step
    solution = env.solution()
    return solution[0] if left <= len(solution) else {"name": "roll", "arguments": {}}


def swing(env: StepToolEnv, step: int) -> Any:
    """Make progress and undo it, for ever."""
    return {"name": "add", "arguments": {"amount": 1 if step % 2 == 0 else -1}}


def stall_near_the_end(env: StepToolEnv, step: int) -> Any:
    solution = env.solution()
    return solution[0] if len(solution) > 1 else {"name": "roll", "arguments": {}}


def finish_early(env: StepToolEnv, step: int) -> Any:
    return {"name": "finish", "arguments": {"answer": "?"}}


HACKS: dict[str, Policy] = {
    "repeats a valid call": lambda env, step: {"name": "roll", "arguments": {}},
    "repeats an unknown tool": lambda env, step: {"name": "rol", "arguments": {}},
    "repeats a failing tool": lambda env, step: {"name": "fail", "arguments": {}},
    "writes no call": lambda env, step: Malformed("hm", "no call"),
    "samples": lambda env, step: env.action_space.sample(),
    "swings": swing,
    "stalls near the end": stall_near_the_end,
    "finishes early": finish_early,
    "does harm": lambda env, step: {"name": "add", "arguments": {"amount": -1}},
}


def score(policy: Policy, shaper: str, seed: int) -> float:
    env = StepToolEnv(Counting(), shaper)
    env.action_space.seed(seed)
    env.reset(seed=seed)
    total, ended, count = 0.0, False, 0
    while not ended:
        _, reward, terminated, truncated, _ = env.step(policy(env, count))
        total, ended, count = total + reward, terminated or truncated, count + 1
    return total


@pytest.mark.parametrize("hack", HACKS)
@pytest.mark.parametrize("shaper", ["final", "steptool"])
def test_no_hack_outranks_solving(shaper: str, hack: str) -> None:
    for seed in range(5):
        best = score(oracle, shaper, seed)
        assert score(HACKS[hack], shaper, seed) < best - 0.5
        assert score(HACKS[hack], shaper, seed) < score(detour, shaper, seed)


@pytest.mark.parametrize("hack", ["repeats a valid call", "swings", "repeats a failing tool"])
def test_more_steps_earn_nothing(hack: str) -> None:
    returns = []
    for budget in (4, 40):
        env = StepToolEnv(Counting(), max_steps=budget)
        env.reset(options={"task": 0})
        returns.append(sum(env.step(HACKS[hack](env, count))[1] for count in range(budget)))
    assert returns[1] <= returns[0] + 1e-9


def test_contributions_add_up_to_the_progress_whatever_the_detours() -> None:
    env = StepToolEnv(Counting(), "steptool")
    env.action_space.seed(0)
    for seed in range(20):
        _, start = env.reset(seed=seed)
        total, ended = 0.0, False
        while not ended:
            _, _, terminated, truncated, info = env.step(env.action_space.sample())
            total, ended = total + info["reward_parts"]["con"], terminated or truncated
        assert total == pytest.approx(0.5 * (info["progress"] - start["progress"]))
        assert total <= 0.5
