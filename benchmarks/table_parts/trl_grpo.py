"""GRPO by other people's code as a row of the paper's table: an algorithm in a file, whose learner is TRL's ``GRPOTrainer``.

    python benchmarks/paper_table.py --method benchmarks/table_parts/trl_grpo.py --method StepTool ...
    steptool train --algo benchmarks/table_parts/trl_grpo.py --set shaper=final

The warm start, the tasks, the reward, the budget and the evaluation are those of every other row; what happens between them is TRL's: it samples
with ``generate``, reads and executes the calls, standardizes rewards in groups, and learns. Needs ``pip install 'steptool-env[trl]'``.

Settings that TRL has as well mean the same there: ``episodes``, ``group``, ``epochs`` (``num_iterations``), ``minibatches``, ``lr``, ``clip``
(``epsilon``), ``kl`` (``beta``), ``temperature``, ``max_grad_norm``. Others are TRL's defaults, or ``algo_options``, which its ``GRPOConfig`` takes.
A run that was killed begins again after its warm start: TRL's own state is not kept.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from steptool_agents import Config, Loop, Run, policy_optimizer
from steptool_agents.interop.trl import environments, reward
from steptool_env.errors import missing_extra

SETTINGS = {"shaper": "final", "group": 8, "lr": 4e-4}
LONGEST = 1_024
"""Tokens of an episode after its prompt, results of tools included; the longest of ``tiny`` has fewer."""


def train(config: Config, out: Path, *, resume: bool = False, console: Console | None = None) -> dict[str, Any]:
    """Train a run with TRL's GRPO and return its report."""
    try:
        from datasets import Dataset
        from transformers import TrainerCallback
        from trl import GRPOConfig, GRPOTrainer
    except ImportError as fault:
        raise missing_extra("TRL's GRPO", fault, "trl") from fault
    with Run(config, out, resume=resume, console=console) as run:
        loop = Loop(run, policy_optimizer(run.lm, config.learning.lr))
        if run.update:  # it was killed while it was evaluated
            return loop.report()
        rollout, learning = config.rollout, config.learning
        # As many tasks as the budget could take if every episode had one step; each is drawn once.
        most = min(len(run.suite("train")), run.config.run.budget_steps or rollout.episodes * config.run.updates)
        tasks = run.rng.choice(len(run.suite("train")), size=most // rollout.group + rollout.episodes, replace=False).tolist()
        play = environments(run.suite("train"), tasks, shaper=run.shaper, longest=4 * LONGEST, max_steps=config.task.max_steps)
        paid: list[dict[str, float]] = []
        bar = run.progress.add_task("TRL", total=config.run.updates, note="")

        def watched(environments: Any, **rest: Any) -> Any:
            values = reward(environments=environments, **rest)
            visits = [one._visit for one in environments]
            run.spent["env_steps"] += sum(len(visit.episode) for visit in visits)
            kept = [visit for visit in visits if not visit.masked]
            paid.append({"success": sum(one.success for one in kept) / len(kept), "reward": sum(one.reward for one in kept) / len(kept)})
            return values

        class Budget(TrainerCallback):
            """Ends the training when the run's budget is spent, after all passes over a batch."""

            def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
                if state.global_step % (learning.minibatches * learning.epochs):
                    return
                # Played once, and read as often as it is learnt from; TRL counts what was played.
                run.spent["model_tokens"] = round((1 + learning.epochs) * state.num_input_tokens_seen)
                control.should_training_stop = not run.has_budget_after_this
                if not control.should_training_stop:  # the last one is logged as it is saved
                    assert run.metrics is not None
                    run.metrics.log(run.update, {**paid[-1], **run.spent})
                    run.update += 1
                run.progress.update(bar, completed=run.update, note=f"success {paid[-1]['success']:.2f}  reward {paid[-1]['reward']:.2f}")

        chosen: dict[str, Any] = {
            "learning_rate": learning.lr, "num_generations": rollout.group, "num_iterations": learning.epochs, "epsilon": learning.clip,
            "beta": learning.kl, "temperature": rollout.temperature, "max_grad_norm": learning.max_grad_norm, "warmup_steps": 0,
            "per_device_train_batch_size": rollout.episodes // learning.minibatches, "steps_per_generation": learning.minibatches,
            "max_completion_length": LONGEST, "max_tool_calling_iterations": play.max_calls,
        }  # fmt: skip
        model = run.lm.model
        attention = model.config._attn_implementation
        with tempfile.TemporaryDirectory() as folder:
            args = GRPOConfig(
                folder, **{**chosen, **learning.algo_options}, seed=config.run.seed, max_steps=10**6, lr_scheduler_type="constant",
                gradient_checkpointing=False, save_strategy="no", logging_strategy="no", report_to="none", use_cpu=True, bf16=False, disable_tqdm=True,
            )  # fmt: skip
            model.set_attn_implementation("sdpa")
            trainer = GRPOTrainer(
                model, watched, args, Dataset.from_list(play.rows), processing_class=run.lm.tokenizer, environment_factory=play.factories, callbacks=[Budget()]
            )  # fmt: skip
            if getattr(trainer, "ref_model", None) is not None:
                trainer.ref_model.load_state_dict(model.state_dict())  # TRL's is the model as it was published, without the warm start
            trainer.train()
            model.set_attn_implementation(attention)
        run.save(loop.optimizer, paid[-1])
        return loop.report()
