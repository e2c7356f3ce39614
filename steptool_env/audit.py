"""The reward audit: can a policy be paid for anything but solving the task? Ask before training, not after.

The oracle, oracles that err now and then, and every cheap trick in ``scripted.HACKS`` play the same tasks. A shaper fails
if a hack earns more than the oracle, or if the noisy oracles are not ordered by return as they are by success. What an
audit does not show: tricks that are not in its list.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steptool_env.env import StepToolEnv
from steptool_env.errors import InvalidArgument, NotSupported, UnknownName
from steptool_env.rewards import RewardShaper, frozen, knows_later, label, make_shaper, name_of
from steptool_env.scripted import HACKS, NoisyOracle, ScriptedPolicy, oracle
from steptool_env.tasks import TaskSuite, make_suite
from steptool_env.types import Transition, whose
from steptool_env.words import counted

__all__ = ["Audit", "Row", "audit"]

NOISE = (0.1, 0.25, 0.5, 0.75)
"""How often the noisy oracles err."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one policy earned."""

    policy: str
    kind: str
    """``"oracle"``, ``"noisy oracle"`` or ``"hack"``."""
    episodes: int
    missing: int
    """Episodes left out because the infrastructure failed or a reward was missing."""
    reward: float
    """Mean return; NaN if every episode is missing, as are the other means."""
    success: float
    """Mean verdict."""
    steps: float
    """Mean number of calls."""
    parts: Mapping[str, float]
    """Mean sum of each part over an episode (discounted, if γ < 1); they add up to ``reward``."""


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit."""

    suite: str
    shaper: str
    rows: tuple[Row, ...]
    """From the highest return to the lowest."""
    faults: tuple[str, ...]
    """What is wrong with the shaper, a sentence each; empty if it passes."""

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.faults

    def __getitem__(self, policy: str) -> Row:
        for row in self.rows:
            if row.policy == policy:
                return row
        raise UnknownName("policy", policy, [row.policy for row in self.rows])

    def as_dict(self) -> dict[str, Any]:
        """Return the audit as a dict that JSON can hold; a mean over no episodes is None."""
        rows = [{name: None if (value := getattr(row, name)) != value else value for name in Row.__slots__} | {"parts": dict(row.parts)} for row in self.rows]
        return {"suite": self.suite, "shaper": self.shaper, "passed": self.passed, "faults": list(self.faults), "rows": rows}

    def __str__(self) -> str:
        parts = list(dict.fromkeys(name for row in self.rows for name in row.parts))
        head = ["policy", "return", "success", "steps", *parts]
        lines = [head, *([row.policy, *_figures(row), *(f"{row.parts.get(name, 0.0):+.3f}" for name in parts)] for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        text = ["  ".join([line[0].ljust(widths[0]), *(map(str.rjust, line[1:], widths[1:]))]) for line in lines]
        return "\n".join([f"{self.shaper} on {self.suite}: {'passed' if self.passed else 'FAILED'}", *text, *(f"- {fault}" for fault in self.faults)])


def audit(
    suite: str | TaskSuite = "worlds",
    shaper: str | RewardShaper = "steptool",
    *,
    episodes: int = 50,
    gamma: float = 1.0,
    max_steps: int | None = None,
    seed: int = 0,
    policies: Mapping[str, ScriptedPolicy] | None = None,
    shaper_options: Mapping[str, Any] | None = None,
    on_policy: Callable[[str], None] | None = None,
    **suite_options: Any,
) -> Audit:
    """Let scripted policies play the same tasks and check that the reward ranks them by how well they solve the tasks.

    Args:
        suite: A name or a suite; it must know its solutions.
        shaper: A name or a shaper; one that knows parts only in hindsight is asked for them.
        episodes: Tasks that every policy plays, spread evenly over the suite; all of them if it has fewer.
        gamma: The discount of the learner.
        max_steps: Overrides the tasks' step budgets.
        seed: Seed of what the policies draw; each task's draws depend on this seed and its id.
        policies: Hacks of your own, by name, beside the usual ones.
        shaper_options: Options of a shaper given by name.
        on_policy: Called with each policy's name before it plays.
        suite_options: Options of a suite given by name.

    Raises:
        NotSupported: The suite knows no solutions.
        InvalidArgument: ``episodes`` is not positive, or a policy has the name of a usual one.

    >>> audit("worlds", "naive-success", episodes=5, level=2).passed
    False
    """
    tasks = make_suite(suite, **suite_options)
    if not tasks.has_solution:
        raise NotSupported(f"suite {tasks.name!r} knows no solutions, so there is no oracle to compare with; audit the shaper on another suite")
    if episodes < 1:
        raise InvalidArgument(f"episodes must be at least 1, got {episodes!r}")
    reward_shaper = make_shaper(shaper, **(shaper_options or {}))
    players: dict[str, tuple[str, ScriptedPolicy]] = {"oracle": ("oracle", oracle)}
    players |= {f"noisy oracle {noise:.0%}": ("noisy oracle", NoisyOracle(noise)) for noise in NOISE}
    players |= {name: ("hack", policy) for name, policy in HACKS.items()}
    for name, policy in (policies or {}).items():
        if name in players:
            raise InvalidArgument(f"there is a policy {name!r} already; choose another name")
        players[name] = ("hack", policy)
    env = StepToolEnv(tasks, reward_shaper, max_steps=max_steps)
    count = min(episodes, len(tasks))  # a task that is played twice is played the same way
    chosen = [number * len(tasks) // count for number in range(count)]
    results = {}
    for name, (kind, policy) in players.items():
        if on_policy is not None:
            on_policy(name)
        results[name] = (kind, _play(env, policy, chosen, gamma, seed))
    rows = [_row(name, kind, result) for name, (kind, result) in results.items()]
    rows.sort(key=lambda row: -row.reward if row.reward == row.reward else np.inf)
    faults = _faults({name: result for name, (_, result) in results.items()}, {row.policy: row for row in rows})
    return Audit(tasks.name, shaper if isinstance(shaper, str) else name_of(reward_shaper), tuple(rows), tuple(faults))


@dataclass(frozen=True, slots=True)
class _Games:
    rewards: NDArray[np.float64]
    """(E,) return of each episode; NaN where it is missing."""
    success: NDArray[np.float64]
    """(E,) verdict of each episode, in [0, 1]."""
    steps: NDArray[np.float64]
    """(E,) calls in each episode."""
    parts: list[Mapping[str, float]]
    """Sum of each part over an episode; one entry per episode that is not missing."""
    broken: int
    """Calls that failed by the fault of the tools' author."""


def _play(env: StepToolEnv, policy: ScriptedPolicy, tasks: Sequence[int], gamma: float, seed: int) -> _Games:
    episodes: list[list[Transition]] = []
    paid: list[list[dict[str, float] | None]] = []
    with frozen(env.shaper):
        for task in tasks:
            env.reset(options={"task": task})
            assert env.episode is not None
            rng = np.random.default_rng([seed, zlib.crc32(env.task.id.encode())])
            parts: list[dict[str, float] | None] = []
            ended = False
            while not ended:
                _, _, terminated, truncated, info = env.step(policy(env, rng))
                parts.append(None if info["masked"] else info["reward_parts"])
                ended = terminated or truncated
            episodes.append(list(env.episode))
            paid.append(parts)
        if knows_later(env.shaper):
            paid = [
                [None if then is None else now for then, now in zip(before, after, strict=True)]
                for before, after in zip(paid, label(env.shaper, episodes), strict=True)
            ]
    sums = [_summed([parts for parts in steps if parts is not None], gamma) if None not in steps else None for steps in paid]
    outcomes = [episode[-1].outcome for episode in episodes]
    return _Games(
        np.array([np.nan if parts is None else sum(parts.values()) for parts in sums]),
        np.array([outcome.solved if outcome is not None else 0.0 for outcome in outcomes]),
        np.array([len(episode) for episode in episodes], dtype=np.float64),
        [parts for parts in sums if parts is not None],
        sum(whose(transition.result.error) == "author" for episode in episodes for transition in episode),
    )


def _summed(steps: Sequence[Mapping[str, float]], gamma: float) -> dict[str, float]:
    total: dict[str, float] = {}
    for t, parts in enumerate(steps):
        for name, value in parts.items():
            total[name] = total.get(name, 0.0) + gamma**t * value
    return total


def _row(name: str, kind: str, result: _Games) -> Row:
    valid = ~np.isnan(result.rewards)
    count = int(valid.sum())
    if not count:
        return Row(name, kind, 0, len(valid), float("nan"), float("nan"), float("nan"), {})
    parts = {part: sum(episode_parts.get(part, 0.0) for episode_parts in result.parts) / count for part in result.parts[0]}
    reward, success, steps = (float(values[valid].mean()) for values in (result.rewards, result.success, result.steps))
    return Row(name, kind, count, len(valid) - count, reward, success, steps, parts)


def _faults(results: Mapping[str, _Games], rows: Mapping[str, Row]) -> list[str]:
    best = rows["oracle"]
    if not best.episodes:
        return ["every reward of the oracle is missing; nothing can be said about the shaper"]
    found = []
    if best.success < 1.0:
        found.append(f"the oracle solves only {best.success:.0%} of the tasks: the suite or the step budget is at fault, not the shaper")
    if broken := results["oracle"].broken:
        found.append(f"{counted(broken, 'call')} of the oracle failed by the fault of the tools' author (tool_failed): mend the tools first")
    for name, row in rows.items():
        if row.kind == "hack" and row.reward > best.reward + 1e-9:
            solved = f"with a success of {row.success:.2f} (oracle: {best.success:.2f})"
            found.append(f"{name!r} earns {row.reward:.3f}, more than the oracle's {best.reward:.3f}, {solved}")
    noisy = [name for name, row in rows.items() if row.kind != "hack" and row.episodes]
    for better, worse in itertools.permutations(noisy, 2):
        margin, error = _difference(results[better], results[worse])
        if margin > 2 * error and margin > 0 and rows[better].reward <= rows[worse].reward:
            solved = f"solves more ({rows[better].success:.2f} against {rows[worse].success:.2f})"
            found.append(f"{better!r} {solved} than {worse!r}, but earns no more ({rows[better].reward:.3f} against {rows[worse].reward:.3f})")
    return found


def _difference(first: _Games, second: _Games) -> tuple[float, float]:
    """Return the mean difference in success over the tasks that both played, and its standard error."""
    both = ~np.isnan(first.rewards) & ~np.isnan(second.rewards)
    if both.sum() < 2:
        return 0.0, 0.0
    differences = (first.success - second.success)[both]
    return float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(len(differences)))


def _figures(row: Row) -> list[str]:
    return [f"{row.reward:+.3f}", f"{row.success:.2f}", f"{row.steps:.1f}"]
