"""Offline data: the step-grained files that the paper released, as trajectories, and ``step-ppo`` on trajectories that lie in a file.

What the released rows lack, nobody can restore: the tokens as they were sampled and their probabilities. The pieces are
tokenized here, once and without any token of the tokenizer's own between them, and the log-probabilities of the policy
before training stand in for those of the sampling. So the first pass is on policy by construction, and later ones drift.
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

from rich.console import Console

from steptool_env.errors import DataError, InvalidArgument
from steptool_env.formats import make_format
from steptool_env.rewards.paper import Judgement, aggregate
from steptool_env.types import Action, Malformed, Outcome, Task, ToolCall, ToolResult, Transition

from .config import Config
from .evaluate import Report, summarize
from .run import Run
from .step_ppo import assign_credit, improve, make_optimizer, reference_logprobs
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
        config: The settings; ``data`` names the file: a released ``.csv``, or a ``.jsonl`` of the project's own whose tokens are
            those of the same model. Each update takes ``episodes`` of them at random.
        out: The run's folder.
        resume: Go on from its last complete update.
        console: Where progress is shown; None shows none.

    Returns:
        The report, as that of ``step_ppo.train``.

    Raises:
        InvalidArgument: ``data`` is not set, or holds nothing to learn from.
    """
    if not config.data and not resume:
        raise InvalidArgument("algorithm 'step-ppo-offline' needs the file of trajectories: --set data=FILE (.csv or .jsonl)")
    with Run(config, out, resume=resume, console=console) as run:
        config = run.config
        data = _load(config, run)
        run.warm_start()
        optimizer = make_optimizer(run.lm, config.lr)
        run.open(optimizer)
        if "before" not in run.state:
            run.evaluate("before")
        bar = run.progress.add_task("offline", total=config.updates, completed=run.update, note="")
        while run.update < config.updates:
            started = time.perf_counter()
            run.cool_down(optimizer)
            picked = [data[index] for index in run.rng.choice(len(data), size=min(config.episodes, len(data)), replace=False)]
            now = {name: parameter.detach().clone() for name, parameter in run.lm.trainable().items()}
            credited = assign_credit(_relogged(picked, reference_logprobs(run.lm, picked, now, config)), config.gamma, config.lam)
            if config.kl:
                credited = replace(credited, ref_logprobs=reference_logprobs(run.lm, picked, run.reference, config))
            learnt = improve(run.lm, optimizer, credited, config, run.rng)
            about = summarize(picked)
            measured = {"success": about.success, "reward": about.reward or 0.0, "call_accuracy": about.call_accuracy}
            run.save(optimizer, {**measured, **learnt, "seconds_update": time.perf_counter() - started})
            run.progress.update(bar, completed=run.update, note=f"loss {learnt.get('policy_loss', 0.0):.3f}")
        after, episodes = run.evaluate("after")
        return run.finish(Report(**run.state["before"]), after, episodes)


def _load(config: Config, run: Run) -> list[Trajectory]:
    path = Path(config.data)
    if not path.is_file():
        raise InvalidArgument(f"the file of trajectories {config.data!r} does not exist")
    encode = run.lm.tokenizer.encode
    data = read_step_csv(path, lambda text: encode(text, add_special_tokens=False)) if path.suffix == ".csv" else read_jsonl(path)
    usable = [one for one in data if any(step.generation.token_ids and not step.masked for step in one.steps)]
    embeddings: Any = run.lm.model.get_input_embeddings()
    size = len(embeddings.weight)
    if not usable:
        raise InvalidArgument(f"{config.data!r} holds no trajectory with tokens to learn from")
    if any(token >= size for one in usable for step in one.steps for token in (*step.generation.prompt_ids, *step.generation.token_ids)):
        raise InvalidArgument(f"{config.data!r} holds tokens that the model {config.model!r} does not have; it was made with another one")
    return usable


def _relogged(trajectories: Sequence[Trajectory], logprobs: Sequence[Any]) -> list[Trajectory]:
    """Return the trajectories with these log-probabilities, (N,) per trajectory, as those of the sampling."""
    done = []
    for trajectory, known in zip(trajectories, logprobs, strict=True):
        steps, at = [], 0
        for step in trajectory.steps:
            count = len(step.generation.token_ids)
            part = tuple(float(one) for one in known[at : at + count])
            at += count
            steps.append(replace(step, generation=replace(step.generation, logprobs=part)))
        done.append(replace(trajectory, steps=tuple(steps)))
    return done
