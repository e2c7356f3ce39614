"""The command ``steptool train``: train a policy and compare it with the policy before training."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import ConfigFile, Json, Level, Option, Set, ShaperOption, make_console, pairs, print_json, read_settings_file

__all__ = ["train"]


def train(
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/<algo>-<model>-<suite>-<seed> by default.")] = None,
    algo: Annotated[
        str | None, typer.Option(help="The algorithm: a name, module:function, or a Python file with a function train; step-ppo by default.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="tiny (the default), smollm2, gemma3-270m, a folder, or a hub name.")] = None,
    suite: Annotated[str | None, typer.Option(help="Where the tasks come from: a name, module:Class, or a Python file; worlds by default.")] = None,
    level: Level = None,
    shaper: Annotated[str | None, typer.Option(help="The reward of every step: a name, module:object, or a Python file; the algorithm's by default.")] = None,
    shaper_option: ShaperOption = None,
    credit: Annotated[str | None, typer.Option(help="Credit assignment: a name, module:function, or a Python file; the algorithm's by default.")] = None,
    call_format: Annotated[str | None, typer.Option(help="How calls are written: auto (the default), native, or a format by name.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds weights, tasks and sampling; 0 by default.")] = None,
    updates: Annotated[int | None, typer.Option(help="Updates of the policy; 36 by default, 20 for a pretrained model.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last complete update of the run in --out, with its settings.")] = False,
    from_: Annotated[
        Path | None, typer.Option("--from", metavar="RUN", help="Begin with the policy that this run has trained, and its settings where none are given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files in --out that no run wrote; go on with damaged metrics.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Also print where the time of an update went.")] = False,
    option: Option = None,
    config: ConfigFile = None,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Train a policy and compare it with itself before, on held-out tasks."""
    from steptool_env.errors import InvalidArgument

    from ..algorithms import algorithm_settings, load_algorithm
    from ..config import Layer, configure
    from ..config.config import Config, merged
    from ..runs.names import check_names
    from ..show.terminal import sentence

    flags = {
        "learning.algo": algo,
        "model.name": model,
        "task.suite": suite,
        "task.suite_options.level": level,
        "task.shaper": shaper,
        "learning.credit": credit,
        "model.call_format": call_format,
        "run.seed": seed,
        "run.updates": updates,
        **{f"task.suite_options.{name}": value for name, value in pairs(option, "--option").items()},
        **{f"task.shaper_options.{name}": value for name, value in pairs(shaper_option, "--shaper-option").items()},
    }
    layers = [
        Layer(f"file {config}", read_settings_file(config) if config is not None else {}),
        Layer("option", {name: value for name, value in flags.items() if value is not None}),
        Layer("--set", pairs(set_, "--set")),
    ]
    console = make_console(json_)
    follower = bool(int(os.environ.get("RANK", "0")))
    if resume:
        from ..runs.folder import read_config

        if from_ is not None:
            raise InvalidArgument("--resume goes on with the run in --out, --from begins a new one: give one of them")
        out = out or default_folder(configure(layers, algorithm_settings).config)
        parts = read_config(out).as_dict()
        for layer in layers:
            parts = merged(parts, layer.settings)
        settings = Config.from_dict(parts)
        if force and not follower:
            from ..runs.folder import make_way

            make_way(out, resume=True)
    else:
        if from_ is not None:
            from ..runs.folder import read_config

            layers.insert(0, Layer(f"run {from_}", read_config(from_).flat()))
        settings, sources = configure(layers, algorithm_settings)
        out = out or default_folder(settings)
        check_names(settings)
        if force and not follower:
            from ..runs.folder import make_way

            make_way(out, resume=False)
        if from_ is not None:
            from ..runs.folder import start_from

            start_from(from_, out, settings)
        if not json_:
            _print_settings(console, settings, sources)
    algorithm = load_algorithm(settings.learning.algo)
    try:
        report = algorithm(settings, out, resume=resume, console=console)
    except KeyboardInterrupt:
        if not follower and (out / "config.json").is_file():
            typer.echo(sentence(f"stopped; what is complete is kept. Go on with: steptool train --resume --out {shlex.quote(str(out))}"), err=True)
        raise
    if follower:
        return  # one of several processes: only the first one prints
    if json_:
        print_json(report)
        return
    from ..show.tables import table

    console.print(table(report))
    if profile:
        from ..runs.trackers import read_metrics
        from ..show.tables import profile_table

        console.print(profile_table(read_metrics(out)))
    curve = ", learning_curve.png" if report["updates"] else ""
    about = f"{report['updates']} updates in {report['seconds']:.0f} s. Saved in {out}: report.html, report.json, trajectories.jsonl{curve}"
    console.print(about, markup=False)


def default_folder(settings: Any) -> Path:
    """Return the default folder of a run."""
    from steptool_env.reference import short_name

    return Path("runs") / "-".join(
        [short_name(settings.learning.algo), Path(settings.model.name).name, short_name(settings.task.suite), str(settings.run.seed)]
    )


def _print_settings(console: Any, settings: Any, sources: dict[str, str]) -> None:
    """Print the settings that differ from the defaults, and their sources."""
    values, by_source = settings.flat(), dict[str, list[str]]()
    for path, source in sources.items():
        by_source.setdefault(source, []).append(f"{path.partition('.')[2]}={json.dumps(values[path])}")
    for source, assignments in by_source.items():
        console.print(f"{source}: {', '.join(assignments)}", style="dim", markup=False, highlight=False, soft_wrap=True)
