"""``step-ppo-offline``: ``step-ppo`` on trajectories from a file, the paper's released ones or your own.

Some files lack the sampled tokens and their probabilities, and these cannot be restored. Annotated trajectories are rendered as the
model would read and write them. The log-probabilities and values of the policy before each update replace those of the sampling. So
the first optimizer step of an update is on-policy by construction, and later ones drift.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from steptool_env.errors import InvalidArgument
from steptool_env.tools.toolkit import FINISH
from steptool_env.types import Message, Observation, ToolCall

from ..config import Config
from ..learning.advantages import assign_credit
from ..learning.batches import length
from ..learning.critic import warm_up_critic
from ..learning.optimizer import policy_optimizer
from ..learning.policy_gradient import improve
from ..learning.reread import as_of_now
from ..policies.tokens import TokenPolicy
from ..runs.loop import Loop
from ..runs.run import Run
from ..trajectory import Generation, Trajectory, read_jsonl
from ..trajectory.released import read_annotations, read_step_csv

__all__ = ["tokenized", "train"]


def train(config: Config, out: Path, *, resume: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Train a policy with ``step-ppo`` on the trajectories of a file, and evaluate it on held-out tasks before and after.

    Args:
        config: The settings; ``learning.data`` names the file: released rows (``.csv``), released annotations (``.json``), or a ``.jsonl`` of
            this project with tokens of the same model. Each update draws ``episodes`` of them. Trajectories that do not fit into the
            model's context window are left out.
        out: The run's folder.
        resume: Continue from its last complete update.
        console: Where progress is shown; None shows none.

    Returns:
        The report, as that of ``step_ppo.train``.

    Raises:
        InvalidArgument: ``data`` is not set, or holds nothing to learn from.
    """
    learning = config.learning
    if not learning.data:
        raise InvalidArgument("algorithm 'step-ppo-offline' needs the file of trajectories: --set data=FILE (.csv, .json or .jsonl)")
    with Run(config, out, resume=resume, console=console) as run:
        data = _load(run)

        def sample() -> list[Trajectory]:
            chosen = run.rng.choice(len(data), size=min(config.rollout.episodes, len(data)), replace=False)
            return as_of_now(run.passes, [data[index] for index in chosen])

        optimizer = policy_optimizer(run.lm, learning.lr)
        loop = Loop(run, optimizer, source=sample, note="loss {policy_loss:.3f}")
        if loop.at_start and learning.value_passes:
            first = assign_credit(loop.collect(), learning.gamma, 1.0)
            warm_up_critic(run.passes, optimizer, first, count=learning.value_passes, rng=run.rng)
        for episodes in loop:
            credited = assign_credit(episodes, learning.gamma, learning.lam, learning.credit, learning.negative)
            loop.log(improve(run.passes, optimizer, credited, learning, run.rng, run.reference))
        return loop.report()


def _load(run: Run) -> list[Trajectory]:
    config, lm = run.config, run.lm
    name, model = config.learning.data, config.model.name
    path = Path(name)
    if not path.is_file():
        raise InvalidArgument(f"the file of trajectories {name!r} does not exist")
    if path.suffix == ".csv":
        data = read_step_csv(path, lambda text: lm.tokenizer.encode(text, add_special_tokens=False))
    elif path.suffix == ".json":
        data = [tokenized(trajectory, run.policy) for trajectory in read_annotations(path)]
    else:
        data = read_jsonl(path)
    usable = [trajectory for trajectory in data if any(step.generation.token_ids and not step.masked for step in trajectory.steps)]
    embeddings: Any = lm.model.get_input_embeddings()
    size = len(embeddings.weight)
    if not usable:
        raise InvalidArgument(f"{name!r} holds no trajectory with tokens to learn from")
    if not all(trajectory.steps[0].generation.prompt_ids for trajectory in usable):
        raise InvalidArgument(f"{name!r} holds trajectories with the tokens of actions and not of prompts; a policy that reads token ids makes both")
    generations = [step.generation for trajectory in usable for step in trajectory.steps]
    if any(token >= size for generation in generations for token in (*generation.prompt_ids, *generation.token_ids)):
        raise InvalidArgument(f"{name!r} holds tokens that the model {model!r} does not have; it was made with another one")
    fitting = [trajectory for trajectory in usable if length(trajectory) <= lm.context]
    if not fitting:
        shortest = min(map(length, usable))
        raise InvalidArgument(f"{name!r} holds nothing that fits into the {lm.context} tokens of {model!r}: the shortest has {shortest}")
    if len(fitting) < len(data):
        about = f"{len(fitting)} of {len(data)} trajectories have tokens and fit into the model's {lm.context}; the others are left out"
        run.console.print(about, highlight=False)
    return fitting


def tokenized(trajectory: Trajectory, policy: TokenPolicy) -> Trajectory:
    """Return a trajectory without tokens, tokenized as the policy's model would read and write it.

    Annotations keep only the names of the tools, so the prompt has only their names, too.
    """
    no_parameters = {"type": "object", "properties": {}}
    names = [name for name in trajectory.task.tools if name != "finish"]
    schemas = [{"type": "function", "function": {"name": name, "description": "", "parameters": no_parameters}} for name in names]
    observation: Observation = {"messages": (Message("user", trajectory.task.instruction),), "tools": json.dumps([*schemas, FINISH.schema])}
    steps = []
    context = policy.prompts.prompt(observation)
    for step in trajectory.steps:
        call = step.transition.action
        assert isinstance(call, ToolCall)
        text, ids, ended = policy.prompts.write(call)
        steps.append(replace(step, generation=Generation(text, call, tuple(context), tuple(ids), (0.0,) * len(ids))))
        context = policy.prompts.extend(Message("assistant", call.as_json()), [Message("tool", step.transition.result.content)], "", ended=ended)
    return replace(trajectory, steps=tuple(steps))
