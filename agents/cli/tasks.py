"""The commands of ``steptool`` about tasks and rewards: ``audit``, ``play``, ``demonstrations``, ``suites``. None needs a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import MOST_SEED, Force, Json, Level, Option, ShaperOption, check_target, make_console, pairs, print_json, suite_options

__all__ = ["audit", "demonstrations", "play", "suites"]


def audit(
    shaper: Annotated[str, typer.Option(help="The reward to audit: a name, module:object, or a Python file.")] = "steptool",
    shaper_option: ShaperOption = None,
    suite: Annotated[str, typer.Option(help="Where the tasks come from: a name, module:Class, or a Python file; it must know its solutions.")] = "worlds",
    level: Level = None,
    episodes: Annotated[int, typer.Option(min=1, help="Tasks that every policy plays; all if there are fewer.")] = 50,
    gamma: Annotated[float, typer.Option(min=0.0, max=1.0, help="The discount of the learner, per step.")] = 1.0,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Overrides the tasks' step budgets.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seeds what the policies draw.")] = 0,
    option: Option = None,
    json_: Json = False,
) -> None:
    """Let an oracle, noisy oracles and cheap tricks play, and fail (exit 1) if the reward ranks them wrongly."""
    from steptool_env.audit import audit as run_audit
    from steptool_env.tasks import make_suite

    from ..show.progress import Lines

    tasks = make_suite(suite, **suite_options(option, level))
    console = make_console(json_)
    lines = Lines(console)

    def show(name: str) -> None:
        status.update(f"{name} plays")
        lines.say(f"{name} plays")

    with console.status("") as status:
        report = run_audit(
            tasks,
            shaper,
            episodes=episodes,
            gamma=gamma,
            max_steps=max_steps,
            seed=seed,
            shaper_options=pairs(shaper_option, "--shaper-option"),
            on_policy=show,
        )
    if json_:
        print_json(report.as_dict())
    else:
        from ..show.tables import audit_table

        console.print(audit_table(report))
        for fault in report.faults:
            console.print(f"- {fault}", markup=False, highlight=False)
        console.print("[bold green]passed" if report.passed else "[bold red]failed")
    if not report.passed:
        raise typer.Exit(1)


def play(
    suite: Annotated[str, typer.Option(help="Where the task comes from: a name of `steptool suites`, module:Class, or a Python file.")] = "worlds",
    level: Level = None,
    split: Annotated[str, typer.Option(help="Which tasks; worlds also knows paraphrases, compositions and domains.")] = "train",
    task: Annotated[str | None, typer.Option(help="Index or id of the task; drawn by default.")] = None,
    shaper: Annotated[str, typer.Option(help="The reward that is shown: a name, module:object, or a Python file.")] = "steptool",
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Draws the task.")] = 0,
    option: Option = None,
    json_: Json = False,
) -> None:
    """Solve a task yourself: call its tools, and see what every call earns."""
    from steptool_env.env import StepToolEnv
    from steptool_env.tasks import make_suite

    from .play import play as play_task

    env = StepToolEnv(make_suite(suite, split=split, **suite_options(option, level, "split")), shaper)
    chosen = int(task) if task is not None and task.isdecimal() and len(task) < 19 else task
    console = make_console(False, stderr=json_)
    result = play_task(env, chosen, seed, console, lambda: console.input("[bold]> [/]"))
    if json_:
        print_json(result)


def demonstrations(
    out: Annotated[Path, typer.Option(help="The file, one JSON object a line.")],
    suite: Annotated[str, typer.Option(help="Where the tasks come from: a name, module:Class, or a Python file; it must know its solutions.")] = "worlds",
    level: Level = None,
    count: Annotated[int, typer.Option(min=1, help="How many episodes.")] = 1000,
    noise: Annotated[float, typer.Option(min=0.0, max=1.0, help="Probability of a random call instead of the right one, at every step.")] = 0.0,
    most_depth: Annotated[int | None, typer.Option(min=1, help="Cover only tasks of at most this depth.")] = None,
    deeper: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the deeper tasks that is covered nevertheless.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seeds the noise.")] = 0,
    option: Option = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Write demonstrations in the conversational form with tool calls that datasets and TRL read."""
    from steptool_env.tasks import make_suite

    from ..rollouts.demonstrations import demonstrations as demonstrate
    from ..rollouts.demonstrations import write_demonstrations
    from ..show.progress import Bars

    check_target(out, "--out", force)
    options = suite_options(option, level)
    lines = demonstrate(make_suite(suite, **options), count, noise=noise, most_depth=most_depth, deeper=deeper, seed=seed)
    with Bars(console=make_console(json_)) as progress:
        bar = progress.add_task("demonstrating", total=count)
        written = write_demonstrations(lines, out, lambda done: progress.update(bar, completed=done))
    if json_:
        print_json({"file": str(out), "episodes": written})
    else:
        make_console(False).print(f"{written} episodes written to {out}", markup=False)


def suites(json_: Json = False) -> None:
    """List the task suites: what is installed, how many tasks, what doing nothing scores, license and installation."""
    from rich.table import Table

    from steptool_env.tasks.facts import describe

    records = describe()
    if json_:
        print_json(records)
        return
    rows = Table()
    for column in ("suite", "tasks", "nothing solves", "license", "about"):
        rows.add_column(column)
    for record in records:
        about = str(record["about"]) if not record["install"] else f"not installed: {record['install']}"
        rows.add_row(str(record["suite"]), str(record["size"]), str(record["floor"]), str(record["license"]), about)
    make_console(False).print(rows)
