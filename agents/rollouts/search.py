"""Search at inference time: one greedy episode, depth-first search over snapshots, or the best of several episodes by value.

All searches get the same budget, counted in model calls: one call is one sampled action, whether it is used or not.

``greedy`` (``cot``): the most likely call at every step. ``dfsdt``: depth-first search as in ToolLLM (arXiv 2307.16789) with the
width of the paper: a node has up to ``width`` children, the first one greedy, the others sampled and different from it; the
search goes on with the newest node, goes back when a branch ends without an answer, and stops at the first answer. Equal means
equal name and arguments, and without an answer the first branch counts: nothing is chosen at random. ``best-of-n``: whole
episodes, the first one greedy, until the budget is used; of those with an answer the one whose last state the critic values most.
No search looks at a reward or a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from steptool_env.env import Snapshot, StepToolEnv
from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.rewards import RewardShaper
from steptool_env.tasks import TaskSuite
from steptool_env.types import Action, Observation, ToolCall

from ..policies.base import Policy, Streaming
from ..trajectory import Generation, Step, Trajectory

__all__ = ["SEARCHES", "Searched", "search"]

BUDGET = 30
"""Model calls per task: ``max_query_count`` of the paper's search."""
RETRIES = 2
"""Extra samples that may be spent on a child that differs from its siblings."""


@dataclass(frozen=True, slots=True)
class Searched:
    """The episode that a search chose, and its cost."""

    trajectory: Trajectory
    calls: int
    """Model calls."""
    env_steps: int
    """Steps of the environment, those of abandoned branches included."""
    tokens: int
    """Tokens read and written by the model."""


@dataclass(slots=True)
class _Task:
    """One search in progress."""

    env: StepToolEnv
    budget: int
    calls: int = 0
    env_steps: int = 0
    tokens: int = 0
    went_back: bool = False
    """Whether the episode goes on from an earlier state: what a policy remembers of it may never have happened."""
    observation: Observation = field(init=False)

    def reset(self, index: int) -> None:
        self.observation, _ = self.env.reset(options={"task": index})

    def go_back(self, snapshot: Snapshot) -> None:
        self.env.restore(snapshot)
        self.went_back = True
        episode = self.env.episode
        assert episode is not None
        self.observation = {"messages": episode.messages, "tools": episode.toolkit.schemas}

    def step(self, generation: Generation) -> tuple[Step, bool]:
        """Take a step; return it, and whether the episode has ended."""
        self.observation, _, terminated, truncated, info = self.env.step(generation.action)
        self.env_steps += 1
        assert self.env.episode is not None
        return Step(generation, self.env.episode[-1], info["reward_parts"], info["masked"]), terminated or truncated


Search: TypeAlias = Generator[bool, Generation, Trajectory]
"""A search as a generator: yields whether it needs the most likely action (True) or a sample, is sent it, and returns an episode."""


def greedy(task: _Task, index: int, width: int) -> Search:
    """Play one episode of the most likely actions."""
    task.reset(index)
    return (yield from _episode(task, True))


def dfsdt(task: _Task, index: int, width: int) -> Search:
    """Search depth first for an answer."""
    task.reset(index)
    path: list[tuple[Snapshot, list[Action]]] = [(task.env.snapshot(), [])]  # the node at each depth: its state, and the actions tried there
    steps: list[Step] = []
    first: Trajectory | None = None
    while path and task.calls < task.budget:
        snapshot, tried = path[-1]
        generation = None
        if len(tried) < width:
            if tried:
                task.go_back(snapshot)
            generation = yield from _child(task, tried)
        if generation is None:
            if task.calls >= task.budget:
                break
            path.pop()  # nothing new to try from here
            steps = steps[: max(0, len(path) - 1)]
            continue
        tried.append(generation.action)
        step, ended = task.step(generation)
        steps = [*steps[: len(path) - 1], step]
        if not ended:
            path.append((task.env.snapshot(), []))
            continue
        trajectory = Trajectory(tuple(steps))
        if _answers(trajectory):
            return trajectory
        first = first or trajectory
    if first is not None:
        return first
    return Trajectory(tuple(steps))  # the budget ended on the first branch: an episode without an end, not solved


def best_of_n(task: _Task, index: int, width: int) -> Search:
    """Play episodes until the budget is used and return the most promising one."""
    found: list[Trajectory] = []
    while not found or task.calls < task.budget:
        task.reset(index)
        found.append((yield from _episode(task, not found)))
    return max(found, key=lambda trajectory: (_answers(trajectory), trajectory.steps[-1].generation.value))  # the first of equals


SEARCHES: dict[str, Callable[[_Task, int, int], Search]] = {"greedy": greedy, "cot": greedy, "dfsdt": dfsdt, "best-of-n": best_of_n}
"""Name -> search."""


def search(
    name: str,
    policies: Mapping[bool, Policy],
    suite: TaskSuite,
    tasks: Sequence[int],
    *,
    budget: int = BUDGET,
    width: int = 2,
    shaper: str | RewardShaper = "final",
    max_steps: int | None = None,
    parallel: int = 64,
    on_done: Callable[[Trajectory], None] | None = None,
) -> list[Searched]:
    """Search an episode of each task; the model works on many searches at once.

    Args:
        name: One of ``SEARCHES``.
        policies: ``{True: the greedy policy, False: the one that samples}``.
        suite: Source of the tasks.
        tasks: Indices into the suite.
        budget: Model calls per task.
        width: Most children of a node.
        shaper: For the rewards that are recorded; no search looks at them.
        max_steps: Overrides the tasks' step budgets.
        parallel: Number of searches in parallel.
        on_done: Called with each trajectory as its search ends.

    Raises:
        UnknownName: There is no such search.
        InvalidArgument: The budget or the width is less than 1.
    """
    if name not in SEARCHES:
        raise UnknownName("search", name, SEARCHES)
    if budget < 1 or width < 1:
        raise InvalidArgument(f"budget and width must be at least 1, got {budget} and {width}")
    results: list[Searched | None] = [None] * len(tasks)
    waiting = list(reversed(range(len(tasks))))
    running: dict[int, tuple[_Task, Search, bool]] = {}

    def start(env: StepToolEnv) -> None:
        if waiting:
            position = waiting.pop()
            task = _Task(env, budget)
            searcher = SEARCHES[name](task, tasks[position], width)
            running[position] = (task, searcher, next(searcher))

    for _ in range(min(parallel, len(tasks))):
        start(StepToolEnv(suite, shaper, max_steps=max_steps))
    while running:
        for most_likely in (True, False):
            positions = [position for position, (_, _, wants) in running.items() if wants is most_likely]
            if not positions:
                continue
            chosen = [running[position] for position in positions]
            for task, _, _ in chosen:
                if task.went_back:
                    _leave(policies.values(), task.env)
                    task.went_back = False
            generations = policies[most_likely].act([task.observation for task, _, _ in chosen], [task.env for task, _, _ in chosen])
            for position, (task, searcher, _), generation in zip(positions, chosen, generations, strict=True):
                task.calls += 1
                task.tokens += len(generation.prompt_ids) + len(generation.token_ids)
                try:
                    running[position] = (task, searcher, searcher.send(generation))
                except StopIteration as end:
                    del running[position]
                    results[position] = Searched(end.value, task.calls, task.env_steps, task.tokens)
                    if on_done is not None:
                        on_done(end.value)
                    start(task.env)
    return [result for result in results if result is not None]


def _leave(policies: Iterable[Policy], env: StepToolEnv) -> None:
    """Have all policies forget an episode. One of two that play it in turn knows its own last action, and not that the other's was taken instead."""
    for policy in policies:
        if isinstance(policy, Streaming):
            policy.leave(env)


def _episode(task: _Task, most_likely: bool) -> Search:
    """Play an episode until it ends or the budget is used."""
    steps: list[Step] = []
    ended = False
    while not ended and (not steps or task.calls < task.budget):
        step, ended = task.step((yield most_likely))
        steps.append(step)
    return Trajectory(tuple(steps))


def _child(task: _Task, tried: Sequence[Action]) -> Generator[bool, Generation, Generation | None]:
    """Request an action that was not tried yet, a few times at most: the first child is greedy, the others are sampled."""
    for _ in range(1 + RETRIES * bool(tried)):
        if task.calls >= task.budget:
            return None
        generation = yield not tried
        if generation.action not in tried:
            return generation
    return None


def _answers(trajectory: Trajectory) -> bool:
    """Return whether the agent ended the episode with an answer, correct or not."""
    action = trajectory.steps[-1].transition.action
    return trajectory.terminated and isinstance(action, ToolCall) and not action.arguments.get("give_up", False)
