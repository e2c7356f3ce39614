"""Does the suite judge as BFCL does? Every multi-turn task in five variants, beside the official ``multi_turn_checker``.

    python benchmarks/bfcl_verdicts.py          # all 800 tasks, some minutes on one core; writes benchmarks/results/

The variants: the gold calls; the first of them left out; the first of them made twice; a call of an unknown tool first;
nothing at all. The official checker reads the package's own data and gets fresh instances for every verdict, because it
keeps them in its module's globals, where the next verdict would find them. Each suite episode is judged twice, in two
environments. The speed is that of playing gold in one environment, ``reset`` included. The exit status is 1 if a
verdict differs, gold does not score 800 of 800, or something is left behind in the package's modules.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steptool_env import StepToolEnv, Task, ToolCall
from steptool_env.tasks.bfcl import CATEGORIES, Bfcl
from steptool_env.tasks.bfcl_simulators import data_folder, read_jsonl

RESULTS = Path(__file__).parent / "results" / "bfcl_verdicts.md"
DONE = ToolCall("finish", {"answer": "Done."})
Turns = list[list[ToolCall]]


def written(call: ToolCall) -> str:
    """Return a call as the official code takes it."""
    return f"{call.name}({', '.join(f'{key}={value!r}' for key, value in call.arguments.items())})"


@contextmanager
def cleaned(module: Any) -> Iterator[None]:
    """Remove the instances that the official code leaves in its module's globals, where the next verdict would find them."""
    before = set(vars(module))
    try:
        yield
    finally:
        for name in set(vars(module)) - before:
            delattr(module, name)


class Official:
    """The official checker on the package's own data, independent of the suite's reading of it."""

    def __init__(self, category: str) -> None:
        folder, file = data_folder(), f"BFCL_v4_multi_turn_{category}.json"
        self.entries = {row["id"]: row for row in read_jsonl(folder / file)}
        self.answers = {row["id"]: row["ground_truth"] for row in read_jsonl(folder / "possible_answer" / file)}
        self.category = f"multi_turn_{category}"

    def valid(self, task_id: str, turns: Turns) -> bool:
        """Return whether the official code accepts these calls."""
        from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_checker, multi_turn_utils
        from bfcl_eval.eval_checker.multi_turn_eval.func_source_code.posting_api import TwitterAPI

        decoded = [[[written(call)] for call in turn] for turn in turns]
        with cleaned(multi_turn_utils):
            verdict = multi_turn_checker.multi_turn_checker(decoded, self.answers[task_id], self.entries[task_id], self.category, "steptool")
        for default in TwitterAPI.post_tweet.__defaults__:  # the official run shares them between all instances
            default.clear()
        return bool(verdict["valid"])


def five(task: Task) -> dict[str, Turns]:
    """Return the five variants of a task's calls, turn by turn."""
    turns = [list(turn) for turn in task.data.gold]
    first = next(index for index, turn in enumerate(turns) if turn)

    def changed(turn: list[ToolCall]) -> Turns:
        return [*turns[:first], turn, *turns[first + 1 :]]

    return {
        "gold": turns,
        "a call dropped": changed(turns[first][1:]),
        "a call twice": changed([turns[first][0], *turns[first]]),
        "an unknown call first": changed([ToolCall("no_such_tool", {"x": 1}), *turns[first]]),
        "nothing": [[] for _ in turns],
    }


def play(env: StepToolEnv, task: Task, turns: Sequence[Sequence[ToolCall]]) -> tuple[float, int]:
    """Play these calls, with ``finish`` after every turn; return the verdict and the number of steps."""
    env.reset(options={"task": task.id})
    steps = 0
    for turn in turns:
        for call in [*turn, DONE]:
            *_, terminated, truncated, info = env.step(call)
            steps += 1
            if terminated or truncated:
                return info["success"], steps
    raise AssertionError("the episode did not end")


def speed(category: str) -> float:
    """Return the steps per second of playing gold in one environment, the best of three rounds over all tasks."""
    suite = Bfcl(category, "all")
    env = StepToolEnv(suite, "steptool")
    best = 0.0
    for _ in range(3):
        started, steps = time.perf_counter(), 0
        for task in suite:
            steps += play(env, task, task.data.gold)[1]
        best = max(best, steps / (time.perf_counter() - started))
    return best


def left_behind() -> set[tuple[str, str]]:
    """Return the globals of all modules of the package."""
    return {(name, key) for name, module in list(sys.modules.items()) if name.partition(".")[0] == "bfcl_eval" for key in vars(module)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="only every n-th task (default: 1)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows, faults = [], []
    for category in CATEGORIES:
        suite, official = Bfcl(category, "all"), Official(category)
        envs = [StepToolEnv(suite, "final") for _ in range(2)]
        play(envs[0], suite[0], suite[0].data.gold)
        official.valid(suite[0].id, five(suite[0])["nothing"])  # whatever is imported late is imported now
        before = left_behind()
        agree, accepted, tasks = Counter[str](), Counter[str](), 0
        for index in range(0, len(suite), arguments.every):
            task, tasks = suite[index], tasks + 1
            for variant, turns in five(task).items():
                mine, again = (play(env, task, turns)[0] for env in envs)
                expected = official.valid(task.id, turns)
                accepted[variant] += int(expected)
                agree[variant] += int(mine == again == float(expected))
                if not mine == again == float(expected):
                    faults.append(f"{task.id}, {variant}: {mine} and {again}, official {expected}")
            if tasks % 50 == 0:
                print(f"{category}: {tasks} tasks", file=sys.stderr)
        if leaked := left_behind() - before:
            faults.append(f"{category}: left behind {sorted(leaked)[:5]}")
        if accepted["gold"] != tasks:
            faults.append(f"{category}: gold scores {accepted['gold']} of {tasks}")
        cells = " | ".join(f"{agree[variant]}/{tasks} ({accepted[variant]})" for variant in five(suite[0]))
        rows.append(f"| {category} | {cells} | {speed(category):,.0f} |")
    table = [
        "# The suite's verdicts beside the official ones",
        "",
        f"Made by `python benchmarks/bfcl_verdicts.py{'' if arguments.every == 1 else f' --every {arguments.every}'}` (bfcl-eval 2026.3.23).",
        "Each cell: in how many tasks the verdict equals that of the official `multi_turn_checker`, judged twice, and in brackets how many both accept.",
        "Speed: gold play in one process, one environment, the default reward, `reset` included.",
        "",
        f"| category | {' | '.join(five(suite[0]))} | steps/s |",
        "|---|---|---|---|---|---|---:|",
        *rows,
        "",
        f"Differences: {len(faults)}.",
    ]
    arguments.out.write_text("\n".join([*table, *faults, ""]), encoding="utf-8")
    print("\n".join([*table, *faults]))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
