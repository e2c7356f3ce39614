"""The command ``steptool eval``: play tasks with a policy and report its success."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import MOST_SEED, EpisodeBar, Force, Json, Level, Option, check_target, make_console, print_json, suite_options

__all__ = ["evaluate"]


def evaluate(
    run: Annotated[Path | None, typer.Option(help="A run's folder: evaluate what it has trained.")] = None,
    policy: Annotated[str | None, typer.Option(help="oracle or random.")] = None,
    model: Annotated[str | None, typer.Option(help="An untrained model: tiny, smollm2, gemma3-270m, a folder, a hub name; with --server, its name.")] = None,
    server: Annotated[str | None, typer.Option(help="An OpenAI-compatible endpoint that plays, such as http://127.0.0.1:8000/v1.")] = None,
    suite: Annotated[str | None, typer.Option(help="Where the tasks come from: a name, module:Class, or a Python file; the run's own by default.")] = None,
    level: Level = None,
    split: Annotated[str, typer.Option(help="Which tasks; worlds also knows paraphrases, compositions and domains.")] = "test",
    episodes: Annotated[int, typer.Option(min=1, help="How many tasks, spread evenly over the suite; all if it has fewer.")] = 200,
    call_format: Annotated[str | None, typer.Option(help="How calls are written (for --model): auto by default, native calls of a server.")] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Play every task this many times and report pass@k and pass^k; a model then samples at temperature 1.")
    ] = 1,
    faults: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of tool calls that fail, for the robustness of a policy.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seeds random play and new weights.")] = 0,
    option: Option = None,
    out: Annotated[Path | None, typer.Option(help="Also write the episodes to this file, for `steptool view`.")] = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Play tasks and report success with a 95 % interval."""
    from steptool_env.errors import InvalidArgument, UnknownName
    from steptool_env.reference import absolute
    from steptool_env.tasks import make_suite
    from steptool_env.tasks.wrapped import BudgetShown, Faulty
    from steptool_env.words import counted

    from ..policies.base import OraclePolicy, Policy, RandomPolicy
    from ..rollouts.evaluate import evaluate as evaluate_policy
    from ..rollouts.evaluate import held_out, pass_rates

    if (run is not None) + (policy is not None) + (model is not None) != 1:
        raise InvalidArgument("say what to evaluate with exactly one of --run FOLDER, --policy oracle|random, --model NAME")
    if out is not None:
        check_target(out, "--out", force)
    if server is not None and model is None:
        raise InvalidArgument("--server needs --model NAME, the name of the model there")
    options: dict[str, Any] = {}
    width, max_steps, temperature, shows_budget = 64, None, 0.0 if samples == 1 else 1.0, False
    actor: Policy
    if run is not None:
        from ..runs.policies import load_policy

        actor, config = load_policy(run, temperature=temperature, seed=seed)
        if suite is None or absolute(suite) == config.task.suite:
            suite, options = config.task.suite, dict(config.task.suite_options)
        width, max_steps, shows_budget = config.run.eval_width, config.task.max_steps, config.task.show_budget
    elif policy is not None:
        scripted: dict[str, Policy] = {"oracle": OraclePolicy(), "random": RandomPolicy(seed)}
        if policy not in scripted:
            raise UnknownName("policy", policy, scripted)
        actor = scripted[policy]
    elif server is not None:
        from ..policies.chat_completions import ChatCompletionsPolicy
        from ..servers.client import ChatClient

        assert model is not None
        actor = ChatCompletionsPolicy(ChatClient(server), model, call_format=call_format, temperature=temperature)
    else:
        from ..config import Config, preset
        from ..models.loading import load_model
        from ..runs.policies import evaluated_policy

        assert model is not None
        config = Config.of(**preset(model, suite or "worlds"))
        config = config.replace(call_format=call_format or config.model.call_format)
        lm = load_model(model, seed=seed, bfloat16=config.model.bfloat16)
        width, max_steps = config.run.eval_width, config.task.max_steps
        actor = evaluated_policy(lm, config, temperature=temperature, seed=seed)
    options |= suite_options(option, level, "split")
    tasks = make_suite(suite or "worlds", **{**options, "split": split})
    if shows_budget:
        tasks = BudgetShown(tasks, max_steps)
    if faults:
        tasks = Faulty(tasks, faults, seed)
    indices = [index for index in held_out(tasks, episodes) for _ in range(samples)]
    console = make_console(json_)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)  # fail now, not after an hour of playing

    with console.status("") if json_ else EpisodeBar(console, len(indices)) as bar:
        report, played = evaluate_policy(actor, tasks, indices, width=width, max_steps=max_steps, on_done=getattr(bar, "advance", None))
    if out is not None:
        from ..trajectory import write_jsonl

        write_jsonl(out, played)
    result = {"suite": tasks.name, "split": split, "options": options, **report.as_dict()}
    if samples > 1:
        result |= pass_rates(played)
    if json_:
        print_json(result)
        return
    from ..show.tables import table

    count = len(indices) // samples
    named = {"test": counted(count, "held-out task"), "train": counted(count, "training task"), "all": counted(count, "task")}
    console.print(table({"before": None, "after": result}, named.get(split, f"{counted(count, 'task')} of the split {split}")))
    for name in ("pass@k", "pass^k") if samples > 1 else ():
        console.print(f"{name}: " + "  ".join(f"{k}: {rate:.1%}" for k, rate in result[name].items()), highlight=False)
    if out is not None:
        console.print(f"Saved {len(played)} episodes; look at them with: steptool view {out}", markup=False, highlight=False, soft_wrap=True)
