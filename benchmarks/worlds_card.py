"""What are the tasks of ``worlds`` like, and who solves them?

    python benchmarks/worlds_card.py                   # 10,000 tasks of every level and split; writes benchmarks/results/
    python benchmarks/worlds_card.py --tasks 200 --json
    python benchmarks/worlds_card.py --rates           # how fast tasks are drawn, and nothing else

For every level and split, and for every level and family: how many tasks, how deep, how many tools, and how many are solved by

- the oracle: the suite's own solution, faults and retries included;
- nothing: ``finish`` at once, with an empty answer or giving up;
- random play: tools on offer with values that the transcript holds;
- a guesser that sees only the question: the better of the best constant answer (chosen with hindsight, on the same tasks), declining
  among them, and of the best word of the question;
- a greedy agent without look-ahead: it reads whatever id has just appeared in a field that the question mentions, calls a tool whose
  verb the question contains as soon as nothing is left to read, and answers with the last value that was asked for. It gives up where
  a call fails; the second one calls again. Both play every tenth task.

The exit status is 1 if a task defeats the oracle, if nothing solves one, if random play solves 1 % or more from level 2 on, if the
guesser solves 5 % or more, or if an answer stands in a question, in the descriptions of tools or in a task's id.
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from steptool_env import StepToolEnv, Task, ToolCall
from steptool_env.tasks.worlds import LEVELS, SPLITS, Worlds
from steptool_env.tasks.worlds.answers import Answer
from steptool_env.tasks.worlds.domains import DOMAINS
from steptool_env.tasks.worlds.families import FAMILIES

RESULTS = Path(__file__).parent / "results"
WORD = re.compile(r"\w[\w.-]*\w|\w")
PLAYERS = ("oracle", "random", "greedy", "greedy, retries")
GREEDY = 10
"""The greedy agents play every tenth task."""
WHO = ("oracle", "nothing", "random", "guesser", "greedy", "greedy, retries")


class Remembering(Worlds):
    """Draws a task once for all who play it."""

    def __getitem__(self, index: Any) -> Any:
        if self.__dict__.get("drawn", (None,))[0] != index:
            self.drawn = (index, super().__getitem__(index))
        return self.drawn[1]


class Greedy:
    """Follows what has just appeared and is mentioned in the question. Knows the domain's schema, not the plan."""

    def __init__(self, task: Task, retries: bool) -> None:
        self.words = {word.casefold() for word in WORD.findall(task.instruction)}
        self.entities = DOMAINS[str(task.tags["domain"])].entities
        self.tools, self.retries = task.tools, retries
        self.made: list[ToolCall] = []
        self.fresh = [(self._kind(word), word) for word in WORD.findall(task.instruction) if self._kind(word)]
        self.last, self.answer = self.fresh[-1] if self.fresh else ("", ""), ""

    def act(self, content: str, error: str) -> ToolCall:
        """Return the next call, given the last result."""
        if error and self.made:
            if self.retries and self.made.count(self.made[-1]) < 3:
                return self._make(self.made[-1] if "wait" not in content else ToolCall("wait", {}))
            return ToolCall("finish", {"answer": self.answer, "give_up": True})
        if self.made and self.made[-1].name == "wait":
            return self._make(self.made[-2])
        self._read(content)
        while self.fresh:
            kind, key = self.last = self.fresh.pop(0)
            call = ToolCall(f"get_{kind}", {f"{kind}_id": key})
            if call.name in self.tools and call not in self.made:
                return self._make(call)
        for name in self.tools:
            verb, _, kind = name.partition("_")
            call = ToolCall(name, {f"{kind}_id": self.last[1]})
            if verb in self.words and kind == self.last[0] and call not in self.made:
                return self._make(call)
        return ToolCall("finish", {"answer": self.answer})

    def _make(self, call: ToolCall) -> ToolCall:
        self.made.append(call)
        return call

    def _read(self, content: str) -> None:
        try:
            record = json.loads(content)
        except ValueError:
            return
        for field, value in record.items() if isinstance(record, dict) else ():
            if field in self.words and self._kind(str(value)):
                self.fresh.append((self._kind(str(value)), value))
            elif field in self.words or field == "confirmation":
                self.answer = str(value)

    def _kind(self, word: str) -> str:
        return next((kind for kind, one in self.entities.items() if re.fullmatch(f"{one.prefix}\\d\\d", word)), "")


def play(env: StepToolEnv, index: int, who: str) -> tuple[bool, int]:
    """Let somebody play a task; return whether it was solved, and in how many calls."""
    env.reset(options={"task": index})
    env.action_space.seed(index)
    greedy = Greedy(env.task, who == "greedy, retries") if who.startswith("greedy") else None
    solution = env.solution() if who == "oracle" else []
    content, error, steps, ended, info = "", "", 0, False, dict[str, Any]()
    while not ended:
        call = env.action_space.sample() if who == "random" else greedy.act(content, error) if greedy else solution[steps]
        observation, _, terminated, truncated, info = env.step(call)
        content, error = observation["messages"][-1].content, info["tool_error"]
        steps, ended = steps + 1, terminated or truncated
    return info["success"] == 1.0, steps


def told(env: StepToolEnv) -> bool:
    """Return whether the whole answer can be read off the question, the tools or the task's id."""
    assert env.episode is not None
    text = f"{env.task.instruction} {env.episode.toolkit.schemas}".casefold()
    words = {*WORD.findall(text), *env.task.id.split("-")}
    return all(part.casefold() in words for part in env.task.data.answer.parts)


def survey(level: int, split: str, count: int, advance: Any) -> list[dict[str, Any]]:
    """Return one row per task."""
    suite = Remembering(level, split, size=max(count, 10_000))
    env = StepToolEnv(suite, "final")
    rows = []
    for number in range(count):
        index = number * len(suite) // count
        row: dict[str, Any] = {}
        for who in PLAYERS[: None if number % GREEDY == 0 else 2]:
            row[who], steps = play(env, index, who)
            row["steps"] = steps if who == "oracle" else row["steps"]
        answer: Answer = env.task.data.answer
        env.reset(options={"task": index})
        row |= {"family": env.task.tags["family"], "depth": env.task.tags["depth"], "tools": len(env.task.tools) - 1, "told": told(env)}
        row["answer"] = f"{answer.text.casefold()} {answer.give_up}"
        row["copied"] = not answer.give_up and any(map(answer.accepts, {*env.task.instruction.split(), *WORD.findall(env.task.instruction)}))
        row["nothing"] = answer.accepts("") and not env.task.data.goals
        rows.append(row)
        advance()
    return rows


def rates(repeats: int = 5) -> dict[int, int]:
    """Return level -> tasks drawn in a second of processor time, one after the other; the median of some thousands."""
    found = {}
    for level in LEVELS:
        suite, times = Worlds(level), []
        for block in range(repeats + 1):  # the first one fills caches
            start = time.process_time()
            for index in range(1000 * block, 1000 * (block + 1)):
                suite[index]
            times.append(time.process_time() - start)
        found[level] = round(1000 / float(np.median(times[1:])))
    return found


def drawn(found: dict[int, int]) -> str:
    """Return the sentence about the rates."""
    return "Tasks drawn in a second, on one core: " + ", ".join(f"level {level} {rate:,}" for level, rate in found.items()) + "."


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of a group of tasks."""
    count = len(rows)
    shares = {who: float(np.mean([row[who] for row in rows if who in row] or [np.nan])) for who in WHO if who != "guesser"}
    constant = collections.Counter(row["answer"] for row in rows).most_common(1)[0][1] / count
    shares["guesser"] = max(constant, sum(row["copied"] for row in rows) / count)
    return {
        "tasks": count,
        "depth": [min(row["depth"] for row in rows), max(row["depth"] for row in rows)],
        "tools": sum(row["tools"] for row in rows) / count,
        "steps": sum(row["steps"] for row in rows) / count,
        "told": sum(row["told"] for row in rows),
        **{who: shares[who] for who in WHO},
    }


def faults(results: dict[tuple[int, str], dict[str, Any]]) -> list[str]:
    """Return every claim that does not hold."""
    found = []
    for (level, group), one in results.items():
        where = f"level {level}, {group}"
        if one["oracle"] < 1.0:
            found.append(f"{where}: the oracle solves {one['oracle']:.4f}")
        if one["nothing"] or one["told"]:
            found.append(f"{where}: nothing solves {one['nothing']:.4f}, {one['told']} answers are told")
        if level >= 2 and one["random"] >= 0.01 and one["tasks"] >= 1000:
            found.append(f"{where}: random play solves {one['random']:.4f}")
        if one["guesser"] >= 0.05 and one["tasks"] >= 200:
            found.append(f"{where}: the guesser solves {one['guesser']:.4f}")
    return found


def table(results: dict[tuple[int, str], dict[str, Any]], second: str) -> list[str]:
    """Return a Markdown table, one line a group."""
    head = ["level", second, "tasks", "depth", "tools", "oracle's calls", *WHO]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    for (level, group), one in results.items():
        figures = [f"{one['tasks']:,}", f"{one['depth'][0]}–{one['depth'][1]}", f"{one['tools']:.1f}", f"{one['steps']:.1f}"]
        lines.append("| " + " | ".join([str(level), group, *figures, *(f"{one[who]:.4f}" for who in WHO)]) + " |")
    return lines


def plot(by_family: dict[tuple[int, str], dict[str, Any]], path: Path) -> None:
    """Draw the success of random play, the guesser and the greedy agents, per level and family."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(15, 4.2), sharey=True)
    names = [name for name in FAMILIES if any(group == name for _, group in by_family)]
    for axis, who in zip(axes, ("random", "guesser", "greedy", "greedy, retries"), strict=True):
        grid = np.array([[by_family.get((level, name), {}).get(who, np.nan) for level in LEVELS] for name in names])
        shown = axis.imshow(grid, vmin=0, vmax=1, aspect="auto", cmap="viridis")
        for (y, x), value in np.ndenumerate(grid):
            if value == value:
                axis.text(x, y, f"{value:.3f}"[1 if value < 1 else 0 :], ha="center", va="center", color="white" if value < 0.6 else "black", fontsize=7)
        axis.set_title(who)
        axis.set_xticks(range(len(LEVELS)), [f"level {level}" for level in LEVELS], fontsize=7)
        axis.set_yticks(range(len(names)), names)
    figure.colorbar(shown, ax=axes, label="tasks solved")
    figure.savefig(path, dpi=90, bbox_inches="tight")
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000, help="tasks of each level and split (default: 10,000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and write no file")
    parser.add_argument("--rates", action="store_true", help="print how many tasks are drawn in a second, and stop")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder for the table and the plot")
    arguments = parser.parse_args()
    if arguments.rates:
        print(drawn(rates()))
        return
    splits = [split for split in SPLITS if split != "all"]
    by_split: dict[tuple[int, str], dict[str, Any]] = {}
    by_family: dict[tuple[int, str], dict[str, Any]] = {}
    console, start = Console(stderr=True), time.perf_counter()
    with Progress(console=console) as progress:
        bar = progress.add_task("", total=len(LEVELS) * len(splits) * arguments.tasks)
        for level in LEVELS:
            of_level = []
            for split in splits:
                progress.update(bar, description=f"level {level}, {split}")
                rows = survey(level, split, arguments.tasks, lambda: progress.advance(bar))
                by_split[level, split] = summary(rows)
                of_level += rows if split in ("train", "test") else []
            for name in FAMILIES:
                if rows := [row for row in of_level if row["family"] == name]:
                    by_family[level, name] = summary(rows)
    found = faults(by_split | by_family)
    if arguments.json:
        groups = {"by split": by_split, "by family": by_family}
        listed = {name: [{"level": level, "group": group, **one} for (level, group), one in what.items()] for name, what in groups.items()}
        print(json.dumps({**listed, "faults": found}))
    else:
        arguments.out.mkdir(parents=True, exist_ok=True)
        plot(by_family, arguments.out / "worlds_card.png")
        command = shlex.join(["python", "benchmarks/worlds_card.py", *sys.argv[1:]])
        text = [
            "# Card of the suite worlds",
            "",
            f"Made by `{command}` in {time.perf_counter() - start:.0f} s on one core.",
            "Shares of tasks that each agent solves; `--help` says what the agents do.",
            "Depth: calls before `finish`, without those that faults cost. Tools: on offer beside `finish`, on average.",
            "",
            drawn(rates()),
            "",
            *table(by_split, "split"),
            "",
            "The families, over the splits train and test:",
            "",
            *table(by_family, "family"),
            "",
            "![Success per family and level](worlds_card.png)",
            "",
        ]
        (arguments.out / "worlds_card.md").write_text("\n".join(text), encoding="utf-8")
    for fault in found:
        console.print(fault, markup=False)
    if found:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
