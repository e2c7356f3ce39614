"""``export_run``: what a run has trained, as a folder that plain ``transformers``, ``peft`` and vLLM load."""

from __future__ import annotations

import os
from pathlib import Path

from steptool_env.errors import CheckpointError, InvalidArgument
from steptool_env.files import replacing_folder, write_json, write_text

from ..models.export import save_weights
from ..models.loading import load_model
from .card import CARD, SETTINGS, model_card
from .folder import load_weights, read_config, trained_weights
from .policies import evaluated_policy
from .results import REPORT, read_report

__all__ = ["check_destination", "export_run"]


def export_run(run: str | os.PathLike[str], to: str | os.PathLike[str], *, adapters: bool = False, warm_start: bool = False, force: bool = False) -> Path:
    """Write what a run has trained into a folder that other programs load; return the folder.

    The folder holds the weights in float32, the tokenizer with its chat template, the configurations, a model card, and the run's settings.
    It appears complete or not at all.

    Args:
        run: The run's folder. Runs with sharded weights, too: their checkpoints hold whole tensors.
        to: Where to write.
        adapters: Write the adapters alone, in ``peft``'s format; by default they are added to the weights.
        warm_start: Export the policy before reinforcement learning instead, also of a run that has not ended.
        force: Replace an earlier export.

    Raises:
        CheckpointError: The folder holds no run, or one that has not ended, or its files are corrupt.
        InvalidArgument: ``to`` is a file, or a folder with something else in it, or ``adapters`` are asked of a run that trains all weights.
    """
    source, target = Path(run), Path(os.path.realpath(to))
    config = read_config(source)
    check_destination(target, force)
    if adapters and not config.model.lora_rank:
        raise InvalidArgument(f"{source} has no adapters: it trained all weights (lora_rank=0); leave out --adapters to export them")
    ended = (source / REPORT).is_file()
    if not ended and not warm_start:
        raise CheckpointError(
            f"{source} has not ended: it has no {REPORT}. Finish it with steptool train --resume --out {source}, "
            "or export what it was before reinforcement learning with --warm-start"
        )
    report = read_report(source) if ended else None
    weights = trained_weights(source, warm_start=warm_start)
    model = config.model
    lm = load_model(model.name, seed=config.run.seed, lora_rank=model.lora_rank, bfloat16=False, device="cpu")
    load_weights(lm, weights, source)
    policy = evaluated_policy(lm, config)
    card = model_card(source, target, config, report, policy, adapters=adapters, warm_start=warm_start)
    with replacing_folder(target) as temporary:
        save_weights(lm, temporary, merged=not adapters)
        lm.tokenizer.save_pretrained(temporary)
        write_json(temporary / SETTINGS, config.as_dict())
        write_text(temporary / CARD, card)
    return target


def check_destination(target: Path, force: bool) -> None:
    """Check that a run may be exported into a folder; a missing or an empty one is free.

    Args:
        target: The folder.
        force: Replace an earlier export; nothing else is ever replaced.

    Raises:
        InvalidArgument: It is a file, or holds something.
    """
    if target.exists() and not target.is_dir():
        raise InvalidArgument(f"--to takes a folder, got the file {str(target)!r}")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not ((target / SETTINGS).is_file() and (target / CARD).is_file()):
        raise InvalidArgument(f"--to {str(target)!r} is not empty and no earlier export (it has no {SETTINGS}), so it is not replaced; name another folder")
    if not force:
        raise InvalidArgument(f"--to {str(target)!r} holds an export; name another folder, or use --force to replace it")
