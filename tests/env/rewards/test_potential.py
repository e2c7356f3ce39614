"""Potential-based shaping cannot change the order of policies: exact policy evaluation on small worlds, no sampling.

Every policy is a table of action probabilities per state. The tree of all episodes is played once with exact snapshots,
then the value of any policy is a finite sum over its leaves: V = Σ_leaves Π_t π(a_t | s_t) · Σ_t γ^t r_t.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from toy import Counting

from steptool_env import RewardShaper, StepToolEnv, Task, ToolCall, Transition, make_suite
from steptool_env.rewards import Final, Potential


@dataclass
class Tree:
    """All episodes of a world: per leaf the (state, action) pairs of its path and the rewards along it."""

    actions: list[ToolCall]
    paths: list[list[tuple[int, int]]] = field(default_factory=list)
    rewards: list[list[float]] = field(default_factory=list)
    states: dict[object, int] = field(default_factory=dict)

    def value(self, policy: np.ndarray, gamma: float) -> float:
        """Return the exact value of a policy (S, A) at the start."""
        return sum(
            float(np.prod([policy[s, a] for s, a in path])) * sum(gamma**t * r for t, r in enumerate(rewards))
            for path, rewards in zip(self.paths, self.rewards, strict=True)
        )


def tree(env: StepToolEnv, actions: list[ToolCall], task: int) -> Tree:
    found = Tree(actions)

    def visit(path: list[tuple[int, int]], rewards: list[float]) -> None:
        assert env.episode is not None
        here = env.snapshot()
        # What the agent can tell apart: how much it has done and how far it has come.
        state = found.states.setdefault((len(path), here.progress), len(found.states))
        for number, action in enumerate(actions):
            env.restore(here)
            _, reward, terminated, truncated, _ = env.step(action)
            taken = ([*path, (state, number)], [*rewards, reward])
            if terminated or truncated:
                found.paths.append(taken[0])
                found.rewards.append(taken[1])
            else:
                visit(*taken)

    env.reset(options={"task": task})
    visit([], [])
    return found


def counting() -> tuple[StepToolEnv, list[ToolCall], int]:
    actions = [ToolCall("add", {"amount": n}) for n in (2, 1, -1)] + [ToolCall("finish", {"answer": n}) for n in ("3", "2")]
    return StepToolEnv(Counting(), "final", max_steps=4), actions, 0


def lookups() -> tuple[StepToolEnv, list[ToolCall], int]:
    """A task of ``worlds`` with two calls before the answer, and every call about its entities that matters."""
    suite = make_suite("worlds", level=1, depth=(2, 2), entities=2, tools=2, families="lookup")
    env = StepToolEnv(suite, "final", max_steps=4)
    env.reset(options={"task": 0})
    solution = env.solution()
    wrong = [ToolCall("finish", {"answer": "0"}), ToolCall(solution[0].name, solution[1].arguments)]
    return env, [*solution, *wrong], 0


def changes() -> tuple[StepToolEnv, list[ToolCall], int]:
    """A task of ``worlds`` in which harm can be done."""
    suite = make_suite("worlds", level=1, depth=(2, 2), entities=2, tools=2, families="change")
    env = StepToolEnv(suite, "final", max_steps=4)
    env.reset(options={"task": 1})
    solution = env.solution()
    _, tool, target = env.task.data.goals[0]
    other = next(key for key in env.task.data.entities if key[0] == target[0] and key != target)
    (argument,) = solution[1].arguments
    return env, [*solution, ToolCall(tool, {argument: other})], 1


WORLDS: dict[str, Callable[[], tuple[StepToolEnv, list[ToolCall], int]]] = {"counting": counting, "lookups": lookups, "changes": changes}


def odd(task: Task, past: Sequence[Transition]) -> float:
    """A potential that says nothing sensible, not even 0 at the start."""
    return 3.0 + np.sin(7.0 * sum(len(one.result.content) + one.step for one in past)) - len(past)


class LeftOpen(Potential):
    """The usual mistake: Φ of a terminal state is not taken as 0."""

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
        last = episode[-1]
        return {"shaping": self.gamma * last.progress - last.progress_before, "solved": last.outcome.solved if last.outcome else 0.0}


def values(world: str, shaper: RewardShaper, gamma: float) -> np.ndarray:
    """Return the exact values of 60 policies: random ones, and as many that decide for sure."""
    env, actions, task = WORLDS[world]()
    env.shaper = shaper
    found = tree(env, actions, task)
    rng = np.random.default_rng(0)
    random = rng.dirichlet(np.full(len(actions), 0.5), size=(30, len(found.states)))
    certain = np.eye(len(actions))[rng.integers(len(actions), size=(30, len(found.states)))]
    return np.array([found.value(policy, gamma) for policy in (*random, *certain)])


@pytest.mark.parametrize("gamma", [1.0, 0.9, 0.5])
@pytest.mark.parametrize("world", WORLDS)
def test_the_value_of_every_policy_moves_by_the_same_amount(world: str, gamma: float) -> None:
    plain = values(world, Final(), gamma)
    assert len(set(plain.round(9))) > 10  # there is something to rank
    env, _, task = WORLDS[world]()
    env.reset(options={"task": task})
    for shaper, start in ((Potential(gamma=gamma), env.suite.progress(env.task, env.episode)), (Potential(odd, gamma=gamma), odd(env.task, []))):  # type: ignore[arg-type]
        shaped = values(world, shaper, gamma)
        np.testing.assert_allclose(shaped, plain - start, atol=1e-9)  # V' = V − Φ(s_0)
        assert (np.argsort(shaped.round(9), kind="stable") == np.argsort((plain - start).round(9), kind="stable")).all()


@pytest.mark.parametrize("world", WORLDS)
def test_without_the_terminal_rule_policies_change_places(world: str) -> None:
    """The test above can fail: with Φ left open at the end, a worse policy passes a better one."""
    plain, shaped = values(world, Final(), 1.0), values(world, LeftOpen(), 1.0)
    assert any((plain[i] - plain[j] > 1e-6) and (shaped[j] - shaped[i] > 1e-6) for i in range(len(plain)) for j in range(len(plain)))


def test_another_discount_than_the_learners_moves_policies_differently() -> None:
    shift = values("counting", Potential(gamma=1.0), 0.5) - values("counting", Final(), 0.5)
    assert shift.std() > 0.01


def test_the_tree_holds_every_episode_once() -> None:
    env, actions, task = counting()
    found = tree(env, actions, task)
    uniform = np.full((len(found.states), len(actions)), 1 / len(actions))
    total = sum(float(np.prod([uniform[s, a] for s, a in path])) for path in found.paths)
    assert total == pytest.approx(1.0)
    # 3 calls go on, 2 end; 4 steps at most: 2 + 3·2 + 9·2 + 27·5 leaves
    assert len(found.paths) == 2 + 6 + 18 + 135
