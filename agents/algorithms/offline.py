"""Offline data: the files that the paper released, as trajectories, and ``step-ppo`` on trajectories that lie in a file.

What the released files lack, nobody can restore: the tokens as they were sampled and their probabilities. The pieces of a row are
tokenized here, once and without any token of the tokenizer's own between them; annotated trajectories are written as the model would
read and write them. The log-probabilities and the values of the policy before each update stand in for those of the sampling. So
the first optimizer step of an update is on policy by construction, and later ones drift.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from steptool_env.errors import InvalidArgument
from steptool_env.formats import make_format
from steptool_env.tools.toolkit import FINISH
from steptool_env.types import Message, Observation, ToolCall

from ..chat.base import Prompts
from ..config import Config
from ..learning.advantages import assign_credit
from ..learning.batches import collate, length, micro_batches
from ..learning.losses import action_logprobs
from ..learning.policy_gradient import anchored, improve, make_optimizer, scaled, warm_up_critic
from ..models.language_model import LanguageModel
from ..models.value_head import mean_over_first
from ..parallel import processes
from ..policies.demonstrator import written
from ..rollouts.evaluate import Report, summarize
from ..runs.run import Run
from ..trajectory import Generation, Trajectory, read_jsonl
from ..trajectory.released import read_annotations, read_step_csv

__all__ = ["train"]


def train(config: Config, out: Path, *, resume: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Train a policy with ``step-ppo`` on the trajectories of a file, and evaluate it on held-out tasks before and after.

    Args:
        config: The settings; ``data`` names the file: released rows (``.csv``), released annotations (``.json``), or a ``.jsonl`` of
            the project's own whose tokens are those of the same model. Each update takes ``episodes`` of them at random. What does
            not fit into the model's context window is left out.
        out: The run's folder.
        resume: Go on from its last complete update.
        console: Where progress is shown; None shows none.

    Returns:
        The report, as that of ``step_ppo.train``.

    Raises:
        InvalidArgument: ``data`` is not set, or holds nothing to learn from.
    """
    if not config.data and not resume:
        raise InvalidArgument("algorithm 'step-ppo-offline' needs the file of trajectories: --set data=FILE (.csv, .json or .jsonl)")
    with Run(config, out, resume=resume, console=console) as run:
        config = run.config
        data = _load(config, run)
        run.warm_start()
        optimizer = make_optimizer(run.lm, config.lr)
        run.open(optimizer)
        if "before" not in run.state:
            run.evaluate("before")
        if not run.update and config.value_passes:
            first = _as_of_now(run.lm, _draw(data, config, run.rng), config)
            warm_up_critic(run.lm, optimizer, assign_credit(first, config.gamma, 1.0), config, run.rng)
        bar = run.progress.add_task("offline", total=config.updates, completed=run.update, note="")
        while run.goes_on:
            started = time.perf_counter()
            run.cool_down(optimizer)
            picked = _as_of_now(run.lm, _draw(data, config, run.rng), config)
            credited = anchored(run.lm, assign_credit(picked, config.gamma, config.lam, config.credit, config.negative), run.reference, config)
            learnt = improve(run.lm, optimizer, credited, config, run.rng)
            run.encoded(picked, 1 + config.epochs + bool(config.kl))
            about = summarize(picked)
            measured = {"success": about.success, "reward": about.reward or 0.0, "call_accuracy": about.call_accuracy}
            run.save(optimizer, {**measured, **learnt, "seconds_update": time.perf_counter() - started})
            run.progress.update(bar, completed=run.update, note=f"loss {learnt.get('policy_loss', 0.0):.3f}")
        after, episodes = run.evaluate("after")
        return run.finish(Report(**run.state["before"]), after, episodes)


def _draw(data: Sequence[Trajectory], config: Config, rng: np.random.Generator) -> list[Trajectory]:
    return [data[index] for index in rng.choice(len(data), size=min(config.episodes, len(data)), replace=False)]


def _load(config: Config, run: Run) -> list[Trajectory]:
    path, lm = Path(config.data), run.lm
    if not path.is_file():
        raise InvalidArgument(f"the file of trajectories {config.data!r} does not exist")
    if path.suffix == ".csv":
        data = read_step_csv(path, lambda text: lm.tokenizer.encode(text, add_special_tokens=False))
    elif path.suffix == ".json":
        data = [_tokenized(one, lm, run.policy.prompts, config) for one in read_annotations(path)]
    else:
        data = read_jsonl(path)
    usable = [one for one in data if any(step.generation.token_ids and not step.masked for step in one.steps)]
    embeddings: Any = lm.model.get_input_embeddings()
    size = len(embeddings.weight)
    if not usable:
        raise InvalidArgument(f"{config.data!r} holds no trajectory with tokens to learn from")
    if any(token >= size for one in usable for step in one.steps for token in (*step.generation.prompt_ids, *step.generation.token_ids)):
        raise InvalidArgument(f"{config.data!r} holds tokens that the model {config.model!r} does not have; it was made with another one")
    fitting = [one for one in usable if length(one) <= lm.context]
    if not fitting:
        shortest = min(map(length, usable))
        raise InvalidArgument(f"{config.data!r} holds nothing that fits into the {lm.context} tokens of {config.model!r}: the shortest has {shortest}")
    if len(fitting) < len(data):
        about = f"{len(fitting)} of {len(data)} trajectories have tokens and fit into the model's {lm.context}; the others are left out"
        run.console.print(about, highlight=False)
    return fitting


def _tokenized(trajectory: Trajectory, lm: LanguageModel, prompts: Prompts, config: Config) -> Trajectory:
    """Return a trajectory without tokens as the model would read it and would have to write it.

    An annotation keeps the tools' names only; so that is all that the prompt tells of them.
    """
    nothing = {"type": "object", "properties": {}}
    shown = [{"type": "function", "function": {"name": name, "description": "", "parameters": nothing}} for name in trajectory.task.tools if name != "finish"]
    observation: Observation = {"messages": (Message("user", trajectory.task.instruction),), "tools": json.dumps([*shown, FINISH.schema])}
    call_format, steps = make_format(config.call_format), []
    context = prompts.prompt(observation)
    for step in trajectory.steps:
        call = step.transition.action
        assert isinstance(call, ToolCall)
        text, ids, ended = written(call, call_format, lm.tokenizer)
        steps.append(replace(step, generation=Generation(text, call, tuple(context), tuple(ids), (0.0,) * len(ids))))
        context = prompts.extend([Message("tool", step.transition.result.content)], "", ended=ended)
    return replace(trajectory, steps=tuple(steps))


def _as_of_now(lm: LanguageModel, trajectories: Sequence[Trajectory], config: Config) -> list[Trajectory]:
    """Return the trajectories with the log-probabilities and values of the policy as it is, in place of those of the sampling."""
    mine = processes.share(trajectories)
    found = list(mine)
    lm.eval()
    with torch.no_grad(), lm.profiler("forward"):
        for group in micro_batches(mine, config.token_budget):
            batch = collate([mine[index] for index in group]).to(lm.device)
            lm.profiler.count("forward", batch.tokens)
            hidden = lm.hidden(batch.ids)
            logprobs, _ = action_logprobs(hidden[batch.token_at[:, 0], batch.token_at[:, 1]], scaled(lm, config), batch.targets)
            rows = batch.state_at[:, 0]
            values = lm.value_head(hidden[rows, batch.state_at[:, 1]], mean_over_first(hidden, batch.prompt_lengths)[rows])
            said, worth = iter(logprobs.tolist()), iter(values.tolist())
            for index in group:
                steps = []
                for step in mine[index].steps:
                    known = tuple(next(said) for _ in step.generation.token_ids)
                    steps.append(replace(step, generation=replace(step.generation, logprobs=known, value=next(worth))))
                found[index] = replace(mine[index], steps=tuple(steps))
    return processes.gather(found)
