"""The ``steptool`` command. Imports what a command needs when it runs: without a model it never loads torch."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import EpisodeBar, Json, Level, Option, Set, ShaperOption, Split, make_console, pairs
from .tasks import audit, demonstrations, play, suites
from .view import view

__all__ = ["app", "main"]

app = typer.Typer(
    name="steptool",
    help="Study and train multi-step tool use: environments, rewards for every step, policies.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def train(
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/<algo>-<model>-<suite>-<seed> by default.")] = None,
    algo: Annotated[str, typer.Option(help="The algorithm: a name, module:function, or a Python file with a function train.")] = "step-ppo",
    model: Annotated[str, typer.Option(help="tiny, smollm2, a folder, or a hub name.")] = "tiny",
    suite: Annotated[str, typer.Option(help="Where the tasks come from; see `steptool suites`.")] = "worlds",
    level: Level = None,
    shaper: Annotated[str | None, typer.Option(help="The reward of every step: a name, or module:factory; that of the algorithm by default.")] = None,
    shaper_option: ShaperOption = None,
    credit: Annotated[str | None, typer.Option(help="Who gets what of the rewards: step, token, trajectory, rloo, grpo, gigpo, bilevel, reference.")] = None,
    call_format: Annotated[str, typer.Option(help="How calls are written.")] = "hermes",
    seed: Annotated[int, typer.Option(help="Seeds weights, tasks and sampling.")] = 0,
    updates: Annotated[int | None, typer.Option(help="Updates of the policy.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last complete update of the run in --out.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Also print where the time of an update went.")] = False,
    option: Option = None,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Train a policy and compare it with itself before, on held-out tasks."""
    from steptool_env.errors import UnknownName
    from steptool_env.formats import make_format
    from steptool_env.rewards import make_shaper
    from steptool_env.tasks import SUITES

    from ..algorithms import load_algorithm
    from ..config import Config

    out = out or Path("runs") / f"{Path(algo).stem.replace(':', '-')}-{Path(model).name}-{suite}-{seed}"
    if resume:
        from ..runs.folder import read_config

        config = read_config(out)
        if updates is not None:
            config = Config.from_dict({**config.as_dict(), "updates": updates})
    else:
        if suite not in SUITES:
            raise UnknownName("suite", suite, SUITES)
        load_algorithm(algo)
        settings: dict[str, Any] = {"algo": algo, "model": model, "suite": suite, "call_format": call_format, "seed": seed}
        settings |= Config.preset(model, suite, algo)
        settings |= {name: value for name, value in (("shaper", shaper), ("credit", credit), ("updates", updates)) if value is not None}
        settings["shaper_options"] = pairs(shaper_option, "--shaper-option")
        make_shaper(settings.get("shaper", "steptool"), **settings["shaper_options"])
        make_format(call_format)
        defaults = Config.from_dict(settings).suite_options
        if level not in (None, defaults.get("level")):
            defaults.pop("depth", None)  # another level brings its own
        options = {**defaults, **pairs(option, "--option")}
        if level is not None:
            options["level"] = level
        config = Config.from_dict({**settings, "suite_options": options, **pairs(set_, "--set")})
    console = make_console(json_)
    report = load_algorithm(config.algo)(config, out, resume=resume, console=console)
    if int(os.environ.get("RANK", "0")):
        return  # started beside others: the first process speaks for all
    if json_:
        print(json.dumps(report))
        return
    from ..show.tables import table

    console.print(table(report))
    if profile:
        from ..runs.trackers import read_metrics
        from ..show.tables import profile_table

        console.print(profile_table(read_metrics(out)))
    curve = ", learning_curve.png" if report["updates"] else ""
    console.print(f"{report['updates']} updates in {report['seconds']:.0f} s. Saved in {out}: report.json, trajectories.jsonl{curve}")


@app.command(name="eval")
def evaluate(
    run: Annotated[Path | None, typer.Option(help="A run's folder: evaluate what it has trained.")] = None,
    policy: Annotated[str | None, typer.Option(help="oracle or random.")] = None,
    model: Annotated[str | None, typer.Option(help="An untrained model: tiny, smollm2, a folder, or a hub name; with --server, its name there.")] = None,
    server: Annotated[str | None, typer.Option(help="An OpenAI-compatible endpoint that plays, such as http://127.0.0.1:8000/v1.")] = None,
    suite: Annotated[str | None, typer.Option(help="Where the tasks come from; the run's own by default.")] = None,
    level: Level = None,
    split: Annotated[Split, typer.Option(help="Which tasks.")] = Split.test,
    episodes: Annotated[int, typer.Option(min=1, help="How many tasks, spread evenly over the suite.")] = 200,
    call_format: Annotated[str | None, typer.Option(help="How calls are written (for --model): hermes by default, native calls of a server.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Play every task so often and report pass@k and pass^k; a model then samples at temperature 1.")] = 1,
    faults: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of tool calls that fail, for the robustness of a policy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seeds random play and new weights.")] = 0,
    option: Option = None,
    out: Annotated[Path | None, typer.Option(help="Also write the episodes to this file, for `steptool view`.")] = None,
    json_: Json = False,
) -> None:
    """Play tasks and report success with a 95 % interval."""
    from steptool_env.errors import InvalidArgument, UnknownName
    from steptool_env.tasks import make_suite
    from steptool_env.tasks.wrapped import Faulty

    from ..policies.base import OraclePolicy, Policy, RandomPolicy
    from ..rollouts.evaluate import evaluate as play
    from ..rollouts.evaluate import held_out, pass_rates

    if (run is not None) + (policy is not None) + (model is not None) != 1:
        raise InvalidArgument("say what to evaluate with exactly one of --run FOLDER, --policy oracle|random, --model NAME")
    if server is not None and model is None:
        raise InvalidArgument("--server needs --model NAME, the name of the model there")
    options: dict[str, Any] = {}
    width, max_steps, temperature = 64, None, 0.0 if samples == 1 else 1.0
    actor: Policy
    if run is not None:
        from ..runs.policies import load_policy

        actor, config = load_policy(run, temperature=temperature, seed=seed)
        if suite in (None, config.suite):
            suite, options = config.suite, dict(config.suite_options)
        width, max_steps = config.eval_width, config.max_steps
    elif policy is not None:
        scripted: dict[str, Policy] = {"oracle": OraclePolicy(), "random": RandomPolicy(seed)}
        if policy not in scripted:
            raise UnknownName("policy", policy, scripted)
        actor = scripted[policy]
    elif server is not None:
        from ..policies.chat_completions import RemotePolicy
        from ..servers.client import ChatClient

        assert model is not None
        actor = RemotePolicy(ChatClient(server), model, call_format=call_format, temperature=temperature)
    else:
        from ..config import Config
        from ..models.loading import load_model
        from ..runs.policies import played_policy

        assert model is not None
        preset = Config.from_dict(Config.preset(model, suite or "worlds"))
        lm = load_model(model, seed=seed, bfloat16=preset.bfloat16)
        lm.eval()
        width, max_steps = preset.eval_width, preset.max_steps
        actor = played_policy(lm, replace(preset, call_format=call_format or preset.call_format), temperature=temperature, seed=seed)
    options |= pairs(option, "--option")
    if level is not None:
        options["level"] = level
    options.pop("split", None)  # --split says it
    tasks = make_suite(suite or "worlds", **options, split=split.value)
    if faults:
        tasks = Faulty(tasks, faults, seed)
    indices = [index for index in held_out(tasks, episodes) for _ in range(samples)]
    console = make_console(json_)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)  # now: after an hour of playing would be late to fail

    with console.status("") if json_ else EpisodeBar(console, len(indices)) as bar:
        report, played = play(actor, tasks, indices, width=width, max_steps=max_steps, on_done=getattr(bar, "advance", None))
    if out is not None:
        from ..trajectory import write_jsonl

        write_jsonl(out, played)
    result = {"suite": tasks.name, "split": split.value, "options": options, **report.as_dict()}
    if samples > 1:
        result |= pass_rates(played)
    if json_:
        print(json.dumps(result))
        return
    from ..show.tables import table

    console.print(table({"before": None, "after": result}))
    for name in ("pass@k", "pass^k") if samples > 1 else ():
        console.print(f"{name}: " + "  ".join(f"{k}: {rate:.1%}" for k, rate in result[name].items()), highlight=False)
    if out is not None:
        console.print(f"Saved {len(played)} episodes; look at them with: steptool view {out}", highlight=False, soft_wrap=True)


def table(
    out: Annotated[Path, typer.Option(help="The grid's folder; one that was killed goes on where it stopped.")] = Path("runs/table"),
    from_: Annotated[Path | None, typer.Option("--from", metavar="DIR", help="Only rebuild the table from the episodes stored there.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="A row of the table; may be repeated. All by default.")] = None,
    settings: Annotated[Path | None, typer.Option(help="The settings.json of a search: its best settings of every method.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, … of every method.")] = 1,
    search: Annotated[list[str] | None, typer.Option(help="greedy, dfsdt or best-of-n; may be repeated.")] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Held-out tasks of each split.")] = 200,
    budget: Annotated[int, typer.Option(min=1, help="Calls of the model per task, for every search.")] = 30,
    processes: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 2,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Train every method, play held-out tasks with and without search, and print the paper's table with intervals."""
    from steptool_env.errors import UnknownName

    from ..experiments.grid import METHODS, SPLITS, Spec, run_grid

    console = make_console(json_)
    failed: list[Path] = []
    if from_ is None:
        for name in method or ():
            if name not in METHODS:
                raise UnknownName("method", name, METHODS)
        chosen = {name: own for name, own in METHODS.items() if not method or name in method}
        if settings is not None:
            from ..experiments.tuning import read_settings, tuned

            chosen = tuned(read_settings(settings), chosen)
        own = pairs(set_, "--set")
        splits = SPLITS if own.get("suite", "worlds") == "worlds" else {"held-out": {}}
        spec = Spec(chosen, list(range(seeds)), own, splits, searches=search or ["greedy", "dfsdt"], tasks=tasks, budget=budget)
        failed = run_grid(spec, out, processes=processes, on_cell=lambda name, seed, state: console.print(f"{name}, seed {seed}: {state}", highlight=False))
    from ..experiments.table import as_markdown, build, write

    made = build(from_ or out)
    files = write(made, from_ or out)
    print(json.dumps(made) if json_ else as_markdown(made))
    console.print(f"Saved: {', '.join(map(str, files))}")
    for folder in failed:
        print(f"steptool: {folder} failed; its log.txt says why", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


for command in (audit, table, play, view, demonstrations, suites):  # --help lists them in this order
    app.command()(command)


def main() -> None:
    """Run the command; a mistake in its arguments prints one line and exits with 2."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # module:factory may lie in the current folder; last, so that nothing there hides a package
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as fault:
        from steptool_env.errors import StepToolError

        if not isinstance(fault, StepToolError):
            raise
        print(f"steptool: {fault}", file=sys.stderr)
        sys.exit(2)
