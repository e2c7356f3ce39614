"""Updates of GRPO by TRL, on the same tasks: its ``GRPOTrainer``, with a suite of ours as its environments."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from measuring import Meter
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from steptool_agents.interop.trl import environments, reward

from .plan import Plan

__all__ = ["run"]

END = "</tool_call>"


class Trainer(GRPOTrainer):
    """Tells generation from learning, and counts tokens."""

    meter: Meter
    counted: dict[str, float]

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        self.meter.enter("generate")
        batch = super()._generate_and_score_completions(inputs)
        self.meter.enter("learn")
        prompts, completions = batch["prompt_mask"], batch["completion_mask"]
        self.counted |= {
            "episodes": len(prompts),
            "tokens": int(prompts.sum() + completions.sum()),
            "written": int((completions * batch["tool_mask"]).sum()),
        }
        return batch


class Told(TrainerCallback):
    """Begins an update when it is told to, and tells its figures."""

    def __init__(self, wait: Callable[[], None], tell: Callable[[dict[str, Any]], None]) -> None:
        self.wait, self.tell = wait, tell
        self.trainer: Any = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.wait()
        self.trainer.meter.enter("learn")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.tell({"phases": self.trainer.meter.take(), **self.trainer.counted})


def run(plan: Plan, folder: Path, *, recompute: bool, wait: Callable[[], None], tell: Callable[[dict[str, Any]], None]) -> None:
    """Load a model and train it.

    Args:
        plan: What is played and learned.
        folder: The model's.
        recompute: Gradient checkpointing.
        wait: Called before an update; it begins when this returns.
        tell: Called with the figures of an update, and once before the first.
    """
    torch.set_num_threads(plan.threads)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)
    # A call ends the turn here; TRL alone would write on until the end token, which the warm start has not taught.
    model.generate = functools.partial(model.generate, tokenizer=tokenizer, stop_strings=[END])
    play = environments("worlds", range(plan.groups * plan.updates), longest=plan.completion, max_steps=plan.max_steps, split="train", **plan.suite)
    counted: dict[str, float] = {}

    def paid(log_metric: Callable[[str, float], None], **rest: Any) -> Any:
        logged: dict[str, list[float]] = {"steps": [], "success": [], "masked": []}
        values = reward(log_metric=lambda name, value: logged[name].append(value), **rest)
        counted.update(turns=sum(logged["steps"]), solved=sum(logged["success"]), reward=sum(value or 0.0 for value in values) / len(values))
        return values

    passes = plan.groups * plan.group // plan.rows
    with tempfile.TemporaryDirectory() as out:
        args = GRPOConfig(
            out,
            max_steps=plan.updates,
            num_generations=plan.group,
            per_device_train_batch_size=plan.rows,
            gradient_accumulation_steps=passes,
            steps_per_generation=passes,
            max_completion_length=plan.completion,
            max_tool_calling_iterations=play.max_calls,
            generation_kwargs={"max_new_tokens": plan.new_tokens},
            temperature=1.0,
            learning_rate=plan.lr,
            gradient_checkpointing=recompute,
            shuffle_dataset=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=plan.dtype == "bfloat16",
            disable_tqdm=True,
        )
        told = Told(wait, tell)
        adapters = LoraConfig(r=plan.rank, lora_alpha=2 * plan.rank, task_type="CAUSAL_LM", target_modules="all-linear")
        trainer = Trainer(
            model,
            paid,
            args,
            Dataset.from_list(play.rows),
            processing_class=tokenizer,
            environment_factory=play.factories,
            peft_config=adapters,
            callbacks=[told],
        )
        with torch.no_grad():  # its weights are read from their file when they are first needed; ours have been
            trainer.model(input_ids=torch.tensor([[1, 2, 3]]))
        trainer.counted, trainer.meter, told.trainer = counted, (meter := Meter()), trainer
        model.get_input_embeddings().register_forward_hook(lambda module, given, embedded: meter.count(given[0].numel()))
        tell({"loaded_mb": meter.loaded_mb})
        trainer.train()
