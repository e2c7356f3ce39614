"""The ``steptool`` command. Imports what a command needs when it runs: without a model it never loads torch."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["app", "main"]

app = typer.Typer(
    name="steptool",
    help="Study and train multi-step tool use: environments, rewards for every step, policies.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Split(StrEnum):
    train = "train"
    test = "test"
    all = "all"


_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
_Level = Annotated[int | None, typer.Option(help="Difficulty, 1 to 5, for suites that have levels.")]
_Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change any setting of config.json; may be repeated.")]
_ShaperOption = Annotated[list[str] | None, typer.Option("--shaper-option", metavar="NAME=VALUE", help="A keyword of the shaper; may be repeated.")]
_Option = Annotated[list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="A keyword of the suite, such as depth=[1,3]; may be repeated.")]


@app.command()
def train(
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/<algo>-<model>-<suite>-<seed> by default.")] = None,
    algo: Annotated[str, typer.Option(help="The algorithm: a name, module:function, or a Python file with a function train.")] = "step-ppo",
    model: Annotated[str, typer.Option(help="tiny, smollm2, a folder, or a hub name.")] = "tiny",
    suite: Annotated[str, typer.Option(help="Where the tasks come from; see `steptool suites`.")] = "worlds",
    level: _Level = None,
    shaper: Annotated[str | None, typer.Option(help="The reward of every step: a name, or module:factory; that of the algorithm by default.")] = None,
    shaper_option: _ShaperOption = None,
    credit: Annotated[str | None, typer.Option(help="Who gets what of the rewards: step, token, trajectory, rloo, grpo, gigpo, bilevel, reference.")] = None,
    call_format: Annotated[str, typer.Option(help="How calls are written.")] = "hermes",
    seed: Annotated[int, typer.Option(help="Seeds weights, tasks and sampling.")] = 0,
    updates: Annotated[int | None, typer.Option(help="Updates of the policy.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last complete update of the run in --out.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Also print where the time of an update went.")] = False,
    option: _Option = None,
    set_: _Set = None,
    json_: _Json = False,
) -> None:
    """Train a policy and compare it with itself before, on held-out tasks."""
    from steptool_env.errors import UnknownName
    from steptool_env.formats import make_format
    from steptool_env.rewards import make_shaper
    from steptool_env.tasks import SUITES

    from . import load_algorithm
    from .config import Config

    out = out or Path("runs") / f"{Path(algo).stem.replace(':', '-')}-{Path(model).name}-{suite}-{seed}"
    if resume:
        from .run import read_config

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
        settings["shaper_options"] = _pairs(shaper_option, "--shaper-option")
        make_shaper(settings.get("shaper", "steptool"), **settings["shaper_options"])
        make_format(call_format)
        defaults = Config.from_dict(settings).suite_options
        if level not in (None, defaults.get("level")):
            defaults.pop("depth", None)  # another level brings its own
        options = {**defaults, **_pairs(option, "--option")}
        if level is not None:
            options["level"] = level
        config = Config.from_dict({**settings, "suite_options": options, **_pairs(set_, "--set")})
    console = _console(json_)
    report = load_algorithm(config.algo)(config, out, resume=resume, console=console)
    if int(os.environ.get("RANK", "0")):
        return  # started beside others: the first process speaks for all
    if json_:
        print(json.dumps(report))
        return
    from .report import table

    console.print(table(report))
    if profile:
        from .metrics import read_metrics
        from .report import profile_table

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
    level: _Level = None,
    split: Annotated[Split, typer.Option(help="Which tasks.")] = Split.test,
    episodes: Annotated[int, typer.Option(min=1, help="How many tasks, spread evenly over the suite.")] = 200,
    call_format: Annotated[str | None, typer.Option(help="How calls are written (for --model): hermes by default, native calls of a server.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Play every task so often and report pass@k and pass^k; a model then samples at temperature 1.")] = 1,
    faults: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of tool calls that fail, for the robustness of a policy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seeds random play and new weights.")] = 0,
    option: _Option = None,
    json_: _Json = False,
) -> None:
    """Play tasks and report success with a 95 % interval."""
    from steptool_env.errors import InvalidArgument, UnknownName
    from steptool_env.tasks import make_suite

    from .evaluate import evaluate as play
    from .evaluate import held_out, pass_rates
    from .policy import OraclePolicy, Policy, RandomPolicy
    from .robustness import Faulty

    if (run is not None) + (policy is not None) + (model is not None) != 1:
        raise InvalidArgument("say what to evaluate with exactly one of --run FOLDER, --policy oracle|random, --model NAME")
    if server is not None and model is None:
        raise InvalidArgument("--server needs --model NAME, the name of the model there")
    options: dict[str, Any] = {}
    width, max_steps = 64, None
    actor: Policy
    if run is not None:
        from .run import load_policy

        actor, config = load_policy(run)
        if suite in (None, config.suite):
            suite, options = config.suite, dict(config.suite_options)
        width, max_steps = config.eval_width, config.max_steps
    elif policy is not None:
        scripted: dict[str, Policy] = {"oracle": OraclePolicy(), "random": RandomPolicy(seed)}
        if policy not in scripted:
            raise UnknownName("policy", policy, scripted)
        actor = scripted[policy]
    elif server is not None:
        from .chat import ChatClient
        from .remote import RemotePolicy

        assert model is not None
        actor = RemotePolicy(ChatClient(server), model, call_format=call_format, temperature=0.0 if samples == 1 else 1.0)
    else:
        from .config import Config
        from .lm import LMPolicy
        from .models import load_model

        assert model is not None
        preset = Config.from_dict(Config.preset(model, suite or "worlds"))
        lm = load_model(model, seed=seed, bfloat16=preset.bfloat16)
        lm.eval()
        width, max_steps = preset.eval_width, preset.max_steps
        actor = LMPolicy(lm, call_format or "hermes", temperature=0.0, max_new_tokens=preset.max_new_tokens, token_budget=preset.token_budget)
    options |= _pairs(option, "--option")
    if level is not None:
        options["level"] = level
    options.pop("split", None)  # --split says it
    tasks = make_suite(suite or "worlds", **options, split=split.value)
    if faults:
        tasks = Faulty(tasks, faults, seed)
    indices = [index for index in held_out(tasks, episodes) for _ in range(samples)]
    if samples > 1 and hasattr(actor, "temperature"):
        actor.temperature = 1.0
    console = _console(json_)

    with console.status("") if json_ else _Bar(console, len(indices)) as bar:
        report, played = play(actor, tasks, indices, width=width, max_steps=max_steps, on_done=getattr(bar, "advance", None))
    result = {"suite": tasks.name, "split": split.value, "options": options, **report.as_dict()}
    if samples > 1:
        result |= pass_rates(played)
    if json_:
        print(json.dumps(result))
        return
    from .report import table

    console.print(table({"before": None, "after": result}))
    for name in ("pass@k", "pass^k") if samples > 1 else ():
        console.print(f"{name}: " + "  ".join(f"{k}: {rate:.1%}" for k, rate in result[name].items()), highlight=False)


@app.command()
def audit(
    shaper: Annotated[str, typer.Option(help="The reward to audit: a name, or module:factory.")] = "steptool",
    shaper_option: _ShaperOption = None,
    suite: Annotated[str, typer.Option(help="Where the tasks come from; it must know its solutions.")] = "worlds",
    level: _Level = None,
    episodes: Annotated[int, typer.Option(min=1, help="Tasks that every policy plays.")] = 50,
    gamma: Annotated[float, typer.Option(min=0.0, max=1.0, help="The discount of the learner, per step.")] = 1.0,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Overrides the tasks' step budgets.")] = None,
    seed: Annotated[int, typer.Option(help="Seeds what the policies draw.")] = 0,
    option: _Option = None,
    json_: _Json = False,
) -> None:
    """Let an oracle, noisy oracles and cheap tricks play, and fail (exit 1) if the reward ranks them wrongly."""
    from steptool_env.audit import audit as run_audit

    options = _pairs(option, "--option") | ({} if level is None else {"level": level})
    console = _console(json_)
    with console.status("") as status:
        found = run_audit(
            suite,
            shaper,
            episodes=episodes,
            gamma=gamma,
            max_steps=max_steps,
            seed=seed,
            shaper_options=_pairs(shaper_option, "--shaper-option"),
            on_policy=lambda name: status.update(f"{name} plays"),
            **options,
        )
    if json_:
        print(json.dumps(found.as_dict()))
    else:
        from .report import audit_table

        console.print(audit_table(found))
        for fault in found.faults:
            console.print(f"- {fault}", markup=False, highlight=False)
        console.print("[bold green]passed" if found.passed else "[bold red]failed")
    if not found.passed:
        raise typer.Exit(1)


@app.command()
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
    set_: _Set = None,
    json_: _Json = False,
) -> None:
    """Train every method, play held-out tasks with and without search, and print the paper's table with intervals."""
    from steptool_env.errors import UnknownName

    from .grid import METHODS, Spec, run_grid

    console = _console(json_)
    failed: list[Path] = []
    if from_ is None:
        for name in method or ():
            if name not in METHODS:
                raise UnknownName("method", name, METHODS)
        methods = METHODS
        if settings is not None:
            from .tuning import read_settings, tuned

            methods = tuned(read_settings(settings), METHODS)
        chosen = {name: own for name, own in methods.items() if not method or name in method}
        spec = Spec(chosen, list(range(seeds)), _pairs(set_, "--set"), searches=search or ["greedy", "dfsdt"], tasks=tasks, budget=budget)
        failed = run_grid(spec, out, processes=processes, on_cell=lambda name, seed, state: console.print(f"{name}, seed {seed}: {state}", highlight=False))
    from .table import as_markdown, build, write

    made = build(from_ or out)
    files = write(made, from_ or out)
    print(json.dumps(made) if json_ else as_markdown(made))
    console.print(f"Saved: {', '.join(map(str, files))}")
    for folder in failed:
        print(f"steptool: {folder} failed; its log.txt says why", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


@app.command()
def play(
    suite: Annotated[str, typer.Option(help="Where the task comes from; see `steptool suites`.")] = "worlds",
    level: _Level = None,
    split: Annotated[str, typer.Option(help="Which tasks; worlds also knows paraphrases, compositions and domains.")] = "train",
    task: Annotated[str | None, typer.Option(help="Index or id of the task; drawn by default.")] = None,
    shaper: Annotated[str, typer.Option(help="The reward that is shown: a name, or module:factory.")] = "steptool",
    seed: Annotated[int, typer.Option(help="Draws the task.")] = 0,
    option: _Option = None,
    json_: _Json = False,
) -> None:
    """Solve a task yourself: call its tools, and see what every call earns."""
    from rich.console import Console

    from steptool_env.env import StepToolEnv

    from .play import play as play_task

    options = _pairs(option, "--option") | ({} if level is None else {"level": level})
    env = StepToolEnv(suite, shaper, split=split, **options)
    chosen = int(task) if task is not None and task.isdecimal() else task
    console = Console(stderr=json_)
    result = play_task(env, chosen, seed, console, lambda: console.input("[bold]> [/]"))
    if json_:
        print(json.dumps(result))


@app.command()
def demonstrations(
    out: Annotated[Path, typer.Option(help="The file, one JSON object a line.")],
    suite: Annotated[str, typer.Option(help="Where the tasks come from; it must know its solutions.")] = "worlds",
    level: _Level = None,
    count: Annotated[int, typer.Option(min=1, help="How many episodes.")] = 1000,
    noise: Annotated[float, typer.Option(min=0.0, max=1.0, help="Probability of a random call instead of the right one, at every step.")] = 0.0,
    most_depth: Annotated[int | None, typer.Option(min=1, help="Cover only tasks of at most this depth.")] = None,
    deeper: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the deeper tasks that is covered nevertheless.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seeds the noise.")] = 0,
    option: _Option = None,
    json_: _Json = False,
) -> None:
    """Write demonstrations in the conversational form with tool calls that datasets and TRL read."""
    from rich.progress import Progress

    from steptool_env.tasks import make_suite

    from .demonstration_export import demonstrations as demonstrate
    from .demonstration_export import export

    options = _pairs(option, "--option") | ({} if level is None else {"level": level})
    lines = demonstrate(make_suite(suite, **options), count, noise=noise, most_depth=most_depth, deeper=deeper, seed=seed)
    with Progress(console=_console(json_)) as progress:
        bar = progress.add_task("demonstrating", total=count)
        written = export(lines, out, lambda done: progress.update(bar, completed=done))
    if json_:
        print(json.dumps({"file": str(out), "episodes": written}))
    else:
        _console(False).print(f"{written} episodes written to {out}")


@app.command()
def suites(json_: _Json = False) -> None:
    """List the task suites: what is installed, how many tasks, what doing nothing scores, licence and installation."""
    from rich.table import Table

    from steptool_env.tasks.catalogue import describe

    found = describe()
    if json_:
        print(json.dumps(found))
        return
    view = Table()
    for column in ("suite", "tasks", "nothing solves", "licence", "about"):
        view.add_column(column)
    for one in found:
        about = str(one["about"]) if not one["install"] else f"not installed: {one['install']}"
        view.add_row(str(one["suite"]), str(one["size"]), str(one["floor"]), str(one["licence"]), about)
    _console(False).print(view)


class _Bar:
    """A progress bar over episodes, with the success so far."""

    def __init__(self, console: Any, total: int) -> None:
        from rich.progress import Progress

        self.progress = Progress(console=console)
        self.task = self.progress.add_task("playing", total=total)
        self.done, self.solved = 0, 0.0

    def __enter__(self) -> _Bar:
        self.progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.stop()

    def advance(self, trajectory: Any) -> None:
        self.done += 1
        self.solved += trajectory.success
        self.progress.update(self.task, completed=self.done, description=f"playing, success {self.solved / self.done:.2f}")


def _console(quiet: bool) -> Any:
    from rich.console import Console

    return Console(quiet=quiet)


def _pairs(items: list[str] | None, flag: str) -> dict[str, Any]:
    """Read ``NAME=VALUE``; the value is JSON where it is JSON, else text."""
    from steptool_env.errors import InvalidArgument

    pairs: dict[str, Any] = {}
    for item in items or ():
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise InvalidArgument(f"{flag} takes NAME=VALUE, got {item!r}")
        try:
            pairs[name] = json.loads(value)
        except ValueError:
            pairs[name] = value
    return pairs


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
