"""Offline data: the files that the paper released, as trajectories, and ``step-ppo`` on trajectories that lie in a file.

What the released files lack, nobody can restore: the tokens as they were sampled and their probabilities. The pieces of a row are
tokenized here, once and without any token of the tokenizer's own between them; annotated trajectories are written as the model would
read and write them. The log-probabilities and the values of the policy before each update stand in for those of the sampling. So
the first optimizer step of an update is on policy by construction, and later ones drift.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from steptool_env.errors import DataError, InvalidArgument
from steptool_env.formats import make_format
from steptool_env.rewards.paper import Judgement, aggregate
from steptool_env.tools.toolkit import FINISH
from steptool_env.types import Action, Malformed, Message, Observation, Outcome, Task, ToolCall, ToolResult, Transition

from . import distributed
from .batching import collate, length, micro_batches
from .config import Config
from .critic import mean_over_first
from .demonstrations import written
from .evaluate import Report, summarize
from .language_model import LanguageModel
from .losses import action_logprobs
from .prompts import Prompts
from .run import Run
from .step_ppo import anchored, assign_credit, improve, make_optimizer, scaled, warm_up_critic
from .trajectory import Generation, Step, Trajectory, read_jsonl

__all__ = ["read_annotations", "read_step_csv", "train"]

Encode = Callable[[str], Sequence[int]]


def read_step_csv(path: str | Path, encode: Encode | None = None) -> list[Trajectory]:
    """Read a released file of step-grained rewards: tab-separated, each cell a Python list as text (prompt, response, reward).

    The rewards come as the part ``released``; the last one, which is that of the answer, is the verdict as well. Responses
    are read in the ReAct form; the release's ``Finish`` becomes ``finish``.

    Args:
        path: The file.
        encode: From text to token ids without special tokens; without it the trajectories have no tokens.

    Raises:
        DataError: A row is broken; names file, line and fault.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(Path(path).read_text(encoding="utf-8"), newline=""), delimiter="\t"))
    except csv.Error as fault:
        raise DataError(path, 1, str(fault)) from fault
    trajectories = []
    for number, row in enumerate(rows):
        try:
            prompts, responses, rewards = (_list(row, key) for key in ("prompt", "response", "reward"))
            if not len(prompts) == len(responses) == len(rewards) > 0:
                raise ValueError(f"{len(prompts)} prompts, {len(responses)} responses and {len(rewards)} rewards; they must be as many")
            trajectories.append(_from_pieces(f"{Path(path).stem}-{number}", prompts, responses, [float(one) for one in rewards], encode))
        except (InvalidArgument, KeyError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError) as fault:
            raise DataError(path, number + 2, f"row {number}: {type(fault).__name__}: {fault}") from fault
    return trajectories


def _list(row: dict[str, Any], key: str) -> list[Any]:
    value = ast.literal_eval(row[key])  # reads literals only, runs nothing
    if not isinstance(value, list):
        raise ValueError(f"{key!r} must be a list, got {value!r:.80}")
    return value


def _from_pieces(task_id: str, prompts: list[str], responses: list[str], rewards: list[float], encode: Encode | None) -> Trajectory:
    actions = [_action(text) for text in responses]
    names = dict.fromkeys(action.name for action in actions if isinstance(action, ToolCall))
    task = Task(task_id, prompts[0], (*names,), len(responses))
    steps = []
    for index, (prompt, text, action, reward) in enumerate(zip(prompts, responses, actions, rewards, strict=True)):
        last = index == len(responses) - 1
        ids = tuple(encode(text)) if encode is not None else ()
        generation = Generation(text, action, tuple(encode(prompt)) if encode is not None else (), ids, (0.0,) * len(ids))
        result = ToolResult("" if last else prompts[index + 1], "malformed" if isinstance(action, Malformed) else "")
        outcome = Outcome(min(max(reward, 0.0), 1.0), "released") if last else None
        steps.append(Step(generation, Transition(task, index, action, result, last, False, outcome), {"released": reward}))
    return Trajectory(tuple(steps))


def _action(text: str) -> Action:
    """Read a response of the release; its ``Finish(return_type, final_answer)`` is ``finish(answer, give_up)`` here."""
    action = make_format("react").parse(text)
    return _finish(action.arguments) if isinstance(action, ToolCall) and action.name == "Finish" else action


def _finish(arguments: Any) -> ToolCall:
    answer = {"answer": str(arguments.get("final_answer", ""))}
    return ToolCall("finish", answer | ({"give_up": True} if arguments.get("return_type") == "give_up_and_restart" else {}))


def read_annotations(path: str | Path) -> list[Trajectory]:
    """Read a released file of annotated trajectories, with the rewards that the annotations make (``rewards/paper.py``).

    The parts are those of the shaper ``paper-judge``: ``success`` and ``contribution`` of a call, ``solved`` of the answer.

    Raises:
        DataError: The file or an entry is broken.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as fault:
        raise DataError(path, getattr(fault, "lineno", 1), f"not JSON: {fault}") from fault
    trajectories = []
    for number, (query_id, entry) in enumerate(entries.items(), 1):
        try:
            trajectories.append(_annotated(str(query_id), entry))
        except (AttributeError, InvalidArgument, KeyError, SyntaxError, TypeError, ValueError) as fault:
            raise DataError(path, number, f"entry {query_id!r}: {type(fault).__name__}: {fault}") from fault
    return trajectories


def _annotated(query_id: str, entry: dict[str, Any]) -> Trajectory:
    judgements = [
        Judgement(tuple(one["succeed_tool_calling"]), tuple(one["contributions"]), str(entry["is_solved"][key]).rpartition(".")[2])
        for key, one in sorted(entry["process_reward"].items())
    ]
    rewards, solved = aggregate(judgements)
    calls = [_call(text) for text in entry["answer_steps"]]
    if len(calls) != len(rewards):
        raise ValueError(f"{len(calls)} calls, but {len(rewards)} were judged")
    final = _call(entry["final_step"])[0]
    task = Task(query_id, entry["query"], tuple("finish" if name == "Finish" else name for name in entry["tool_names"]), len(calls) + 1)
    steps = []
    for index, ((call, response), (success, contribution)) in enumerate(zip(calls, rewards, strict=True)):
        transition = Transition(task, index, call, ToolResult(response), False, False, None)
        steps.append(Step(Generation("", call), transition, {"success": success, "contribution": contribution, "solved": 0.0}))
    outcome = Outcome(solved, "judged")
    ending = Transition(task, len(calls), final, ToolResult(""), True, False, outcome)
    return Trajectory((*steps, Step(Generation("", final), ending, {"success": 0.0, "contribution": 0.0, "solved": solved})))


def _call(text: str) -> tuple[ToolCall, str]:
    """Read ``Step 1: {'name': …, 'arguments': '<JSON>', 'response': …}``."""
    record = ast.literal_eval(text[text.index("{") :])
    arguments = json.loads(record["arguments"]) if isinstance(record["arguments"], str) else record["arguments"]
    call = _finish(arguments) if record["name"] == "Finish" else ToolCall(str(record["name"]), arguments)
    return call, str(record["response"])


# -------------------------------------------------------------------- training
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
    mine = distributed.share(trajectories)
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
    return distributed.gather(found)
