"""What limits tasks that are deeper than those of training? Trained policies, given the same tasks in parts.

    python benchmarks/deeper.py --run runs/table/cells/steptool-0/run --run runs/table/cells/steptool-1/run     # writes benchmarks/results/deeper.md
    python benchmarks/deeper.py --run RUN --tasks 10 --out runs/trial.md    # a trial

The runs were trained on tasks of one to six calls, as those of the paper's table. Everything is greedy, on tasks of ``worlds`` that are not trained on:

- whole tasks: how they end, and how often the first call that does not contribute comes at which place;
- the end of a task: the oracle makes all calls but the last ones, the policy makes the rest. Long transcripts with little left to do;
- after useless calls: calls that work and do not help come first. Long transcripts, with a short task to do;
- a budget of calls that is never used up;
- what a useless call was, beside the call that the oracle makes there;
- the same model fitted to demonstrations, of the depths of training and of the deeper ones (other tasks): what it can learn when it is shown the way.

If it were the length of the transcript, the ends of deep tasks and short tasks after useless calls would be failed, too. If it were the budget,
more of it would help. If it is the number of calls in which something can go wrong, the ends are solved, and success falls as a product over calls.
Brackets: 95 % bootstrap intervals over tasks and runs.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from rich.progress import Progress

from steptool_agents import Trajectory
from steptool_agents.algorithms import algorithm_settings
from steptool_agents.config import Layer, configure
from steptool_agents.experiments.grid import TASKS
from steptool_agents.experiments.stored import markdown, with_interval
from steptool_agents.learning.passes import Passes
from steptool_agents.rollouts.evaluate import contributed, held_out, rollout_tasks
from steptool_agents.rollouts.statistics import bootstrap
from steptool_agents.runs.policies import evaluated_policy, load_policy, training_model, training_policy
from steptool_agents.runs.warm_start import imitate_oracle
from steptool_agents.trajectory import Generation
from steptool_env import StepToolEnv
from steptool_env.files import write_text
from steptool_env.scripted import ScriptedPolicy, oracle
from steptool_env.tasks import TaskSuite
from steptool_env.tasks.worlds import Worlds
from steptool_env.types import Task, ToolCall, whose

RESULTS = Path(__file__).parent / "results" / "deeper.md"
DEPTHS = (2, 4, 6, 7, 8)
TRAINED = 6
LEFT = (0, 1, 2, 3, 4, 6)
BEFORE = (0, 2, 4, 6)
SHOWN = 5000
"""So many of the deeper tasks are for demonstrations only."""
ROOM = 40
"""The budget of calls where the number of calls is not the question."""

Played: TypeAlias = "list[list[Trajectory]]"
"""The episodes of each policy."""


class After:
    """A policy whose first calls of every episode are made by a script.

    Args:
        policy: Makes the other calls.
        script: Makes the first ones.
        calls: How many these are in an episode of a task.
    """

    def __init__(self, policy: Any, script: ScriptedPolicy, calls: Callable[[Task], int]) -> None:
        self.policy, self.script, self.calls = policy, script, calls

    def act(self, observations: Sequence[Any], envs: Sequence[StepToolEnv]) -> list[Generation]:
        """Return the next calls; see ``Policy``."""
        done = [0 if env.episode is None else len(env.episode) for env in envs]
        own = [index for index, env in enumerate(envs) if done[index] >= self.calls(env.task)]
        written = self.policy.act([observations[index] for index in own], [envs[index] for index in own]) if own else []
        chosen = dict(zip(own, written, strict=True))
        for index, env in enumerate(envs):
            if index not in chosen:
                call = self.script(env, np.random.default_rng(done[index]))
                chosen[index] = Generation(call.as_json(), call)
        return [chosen[index] for index in range(len(envs))]


def wanderer(env: StepToolEnv, rng: np.random.Generator) -> ToolCall:
    """Read a field of a record that is known and does not help, one that was not read before if there is any."""
    assert env.episode is not None
    made = [transition.action for transition in env.episode]
    ids = sorted({found for message in env.episode.messages for found in re.findall(r"\b[A-Z][0-9]+\b", message.content)})
    calls = []
    for name, schema in env.episode.toolkit.parameters.items():
        if "field" in schema["properties"]:
            [record] = set(schema["properties"]) - {"field"}
            calls += [ToolCall(name, {record: one, "field": field}) for one in ids for field in schema["properties"]["field"]["enum"]]
    state, trial = env.snapshot(), StepToolEnv(env.suite, "final", max_steps=env.max_steps)
    known: ToolCall | None = None
    for index in rng.permutation(len(calls)):
        trial.restore(state)
        _, _, _, _, info = trial.step(calls[index])
        if not info["tool_error"] and info["progress"] == state.progress:
            if calls[index] not in made:
                return calls[index]
            known = calls[index]
    assert known is not None, "every record has a field that does not help"
    return known


# ---------------------------------------------------------------- play
def tasks_of(depth: int, count: int) -> tuple[TaskSuite, list[int]]:
    """Return a suite and tasks of this depth that are not trained on."""
    deeper = depth > TRAINED
    suite: TaskSuite = Worlds(**TASKS, split="compositions")[SHOWN:] if deeper else Worlds(**{**TASKS, "depth": (depth, depth)}, split="test")
    found = [index for index in held_out(suite, 4 * count if deeper else count) if suite[index].tags["depth"] == depth]
    return suite, found[:count]


def play(
    policies: Sequence[Any], depth: int, count: int, *, first: Callable[[Task], int] | None = None, script: ScriptedPolicy = oracle, room: int | None = None
) -> Played:
    """Play tasks of a depth with each policy, after ``first`` calls of a script; return the episodes of each."""
    suite, tasks = tasks_of(depth, count)
    return [rollout_tasks(policy if first is None else After(policy, script, first), suite, tasks, shaper="final", max_steps=room) for policy in policies]


def _all_but(left: int, task: Task) -> int:
    return int(task.tags["depth"]) - left


def _as_many(calls: int, _: Task) -> int:
    return calls


def success(played: Played) -> str:
    """Return the success over tasks and runs, in per cent with its interval."""
    return with_interval(asdict(bootstrap([[episode.success for episode in seed] for seed in played])), "mean", "low", "high")


def first_mistake(episode: Trajectory) -> tuple[int, str] | None:
    """Return the place of the first call that did not contribute, and what was wrong with it; None: each one did."""
    for place, step in enumerate(episode.steps):
        transition = step.transition
        if not contributed(transition):
            call = transition.action
            if isinstance(call, ToolCall) and call.name == "finish":
                missing = int(episode.task.tags["depth"]) - place
                return place, "gave up" if call.arguments.get("give_up") else "answered too early" if missing > 0 else "wrong answer"
            if whose(transition.result.error) == "model":
                return place, "invalid call"
            return place, "harmful call" if transition.progress < transition.progress_before else "useless call"
    return None


def instead(episode: Trajectory, suite: TaskSuite, task: int) -> str:
    """Return what the first call that did not contribute was, beside the one that the oracle makes there; the calls before are the oracle's."""
    found = first_mistake(episode)
    assert found is not None
    env = StepToolEnv(suite, "final")
    env.reset(options={"task": task})
    for step in episode.steps[: found[0]]:
        env.step(step.transition.action)
    wanted, made = env.solution()[0], episode.steps[found[0]].transition.action
    if not isinstance(made, ToolCall) or made.name != wanted.name:
        return "another tool"
    field = made.arguments.get("field")
    if {**made.arguments, "field": 0} != {**wanted.arguments, "field": 0}:
        return "another record"
    words = episode.task.instruction
    return "a field asked for later" if f"the {field} of" in words else "a field not asked for"


INSTEAD = ("a field asked for later", "a field not asked for", "another record", "another tool")
KINDS = ("invalid call", "useless call", "harmful call", "answered too early", "wrong answer", "gave up")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, and an empty one."""
    return [*markdown(head, rows), ""]


def share(part: int, whole: int) -> str:
    """Return a share in per cent."""
    return f"{100 * part / whole:.0f}" if whole else "-"


def measured(policies: Sequence[Any], count: int) -> list[str]:
    """Play everything; return the lines of the page."""

    def progress(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    whole: dict[int, Played] = {}
    for depth in DEPTHS:
        progress(f"whole tasks of {depth} calls")
        whole[depth] = play(policies, depth, count)
    lines = ["## Whole tasks", ""]
    lines += ["How often greedy play solves them, and what was wrong with the first call that did not contribute, in per cent of all episodes.", ""]
    rows = []
    for depth, played in whole.items():
        episodes = [one for seed in played for one in seed]
        mistakes = [found for one in episodes if (found := first_mistake(one))]
        mended = sum(one.success >= 1 for one in episodes if first_mistake(one))
        kinds = [share(sum(kind == name for _, kind in mistakes), len(episodes)) for name in KINDS]
        cut = share(sum(one.truncated for one in episodes), len(episodes))
        rows.append([str(depth), success(played), *kinds, share(mended, len(mistakes)), cut])
    lines += table(["calls", "success", *KINDS, "solved all the same", "budget used up"], rows)
    lines += ["The chance that a call is the first one that does not contribute, by its place, in per cent; the last one of a row is the answer.", ""]
    places = max(DEPTHS) + 1
    rows = []
    for depth, played in whole.items():
        first = [first_mistake(one) for seed in played for one in seed]
        reached = [sum(one is None or one[0] >= place for one in first) for place in range(depth + 1)]
        wrong = [sum(one is not None and one[0] == place for one in first) for place in range(depth + 1)]
        rows.append([str(depth), *map(share, wrong, reached), *["-"] * (places - depth - 1)])
    lines += table(["calls", *(str(place + 1) for place in range(places))], rows)

    lines += ["What the useless calls were, beside what the oracle calls there, in per cent of them. Fields are relations between records.", ""]
    rows = []
    for depth in (6, 7, 8):
        suite, tasks = tasks_of(depth, count)
        useless = [(one, task) for seed in whole[depth] for one, task in zip(seed, tasks, strict=True) if (first_mistake(one) or (0, ""))[1] == "useless call"]
        what = [instead(one, suite, task) for one, task in useless]
        rows.append([str(depth), str(len(useless)), *(share(what.count(kind), len(what)) for kind in INSTEAD)])
    lines += table(["calls", "useless calls", *INSTEAD], rows)

    lines += ["## The ends of tasks", "", "Success where the oracle makes all but the last calls; 0: only the answer is left.", ""]
    rows = []
    for depth in DEPTHS:
        progress(f"the ends of tasks of {depth} calls")
        cells = [success(play(policies, depth, count, first=partial(_all_but, left))) if left < depth else "-" for left in LEFT]
        rows.append([str(depth), *cells, success(whole[depth])])
    lines += table(["calls", *(f"{left} left" for left in LEFT), "all"], rows)

    lines += ["## After useless calls", "", f"Success where calls that work and do not help come first, with a budget of {ROOM} calls.", ""]
    rows = []
    for depth in (2, 4):
        cells = []
        for before in BEFORE:
            progress(f"tasks of {depth} calls after {before} useless ones")
            cells.append(success(play(policies, depth, count, first=partial(_as_many, before), script=wanderer, room=ROOM)))
        rows.append([str(depth), *cells])
    lines += table(["calls", *(f"after {before}" for before in BEFORE)], rows)

    lines += ["## A budget that is never used up", ""]
    lines += [f"Success with the budget of the tasks, 1.5 times the calls of the solution and two, and with {ROOM} calls.", ""]
    rows = []
    for depth in (7, 8):
        progress(f"tasks of {depth} calls, with {ROOM}")
        rows.append([str(depth), success(whole[depth]), success(play(policies, depth, count, room=ROOM))])
    return lines + table(["calls", "own budget", f"{ROOM} calls"], rows)


def fitted(suite: TaskSuite, demos: int, seed: int) -> Any:
    """Return the greedy policy of a new ``tiny`` that is fitted to demonstrations of a suite."""
    changed = {"suite_options": TASKS, "demos": demos, "demo_lr": 1.5e-3, "demo_batch": 8, "seed": seed, "algo": "sft"}
    config = configure([Layer("benchmark", changed)], algorithm_settings).config
    lm = training_model(config)
    policy = training_policy(lm, config, Path(), seed=seed)
    with Progress(disable=True) as hidden:
        imitate_oracle(Passes(lm, token_budget=config.model.token_budget, temperature=1.0), policy, suite, config, hidden)
    return evaluated_policy(lm, config)


def supervised(demos: Sequence[int], seeds: Sequence[int], count: int) -> list[str]:
    """Fit models to demonstrations; return the lines of the page."""
    trained = Worlds(**TASKS, split="train")
    deeper = Worlds(**TASKS, split="compositions")[:SHOWN]
    rows = []
    for name, suite in ((f"1 to {TRAINED}", trained), ("7 and 8", deeper)):
        for number in demos:
            print(f"{number} demonstrations of {name} calls", file=sys.stderr, flush=True)
            policies = [fitted(suite, number, seed) for seed in seeds]
            rows.append([name, f"{number:,}", *(success(play(policies, depth, count)) for depth in DEPTHS)])
    lines = ["## Shown the way", ""]
    lines += ["Success of the same model, fitted to demonstrations alone, by their depth and number; one pass, a fifth of the calls mistaken.", ""]
    return lines + table(["demonstrations of", "number", *(f"{depth} calls" for depth in DEPTHS)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, action="append", help="the folder of a run; may be repeated")
    parser.add_argument("--tasks", type=int, default=100, help="of each depth")
    parser.add_argument("--demos", type=int, nargs="*", default=[1000, 4000], help="demonstrations that models are fitted to; none: not fitted")
    parser.add_argument("--seeds", type=int, default=2, help="models that are fitted to each")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    policies = [load_policy(run)[0] for run in given.run or ()]
    head = ["# What limits deeper tasks", "", f"`{shlex.join(['python', 'benchmarks/deeper.py', *sys.argv[1:]])}`", ""]
    lines = measured(policies, given.tasks) if policies else []
    lines += supervised(given.demos, range(given.seeds), given.tasks) if given.demos else []
    text = "\n".join([*head, *lines]).rstrip() + "\n"
    write_text(given.out, text)
    print(text)


if __name__ == "__main__":
    main()
