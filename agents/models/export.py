"""Export of a model's weights in the formats of ``transformers`` and ``peft``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor

from steptool_env.files import replacing_folder

from ..parallel import processes, sharding
from .bars import no_bars
from .language_model import LanguageModel

__all__ = ["export_model", "save_weights"]


def export_model(lm: LanguageModel, folder: Path, *, head: bool = False) -> Path:
    """Save adapters, or all weights with the tokenizer, in a form that other programs load; return the folder.

    The folder appears complete or not at all; an existing one is replaced. All processes of a run call it, and the main one writes;
    weights that are sharded are gathered for it one after the other, in its main memory.

    Args:
        lm: Of a ``peft`` model the adapters are saved (``adapter_model.safetensors``), of any other all weights
            (``model.safetensors``). The value head is not part of the export.
        folder: Where to save.
        head: If all weights are saved, and the output projection is the input embedding, which files hold once, save it under its own name, too
            (``head.safetensors``): a server that holds the two apart finds both.
    """
    whole = sharding.joined(_saved(lm)) if sharding.is_sharded(lm) else None
    if not processes.is_main():
        return folder
    with replacing_folder(folder) as temporary:
        save_weights(lm, temporary, weights=whole)
        if not isinstance(lm.model, PeftModel):
            lm.tokenizer.save_pretrained(temporary)
            if head and (tied := _tied_head(lm, whole)):
                save_file(tied, temporary / "head.safetensors")
    return folder


def save_weights(lm: LanguageModel, folder: Path, *, merged: bool = False, weights: dict[str, Tensor] | None = None) -> None:
    """Save weights and configuration into a folder.

    Args:
        lm: As for ``export_model``.
        folder: It exists.
        merged: Add the adapters to the weights, and save those. The model has no adapters then, and can no longer be trained.
        weights: The model's, whole, if it is sharded.
    """
    model: Any = lm.model
    implementation = lm.config._attn_implementation
    try:
        # Servers do not know the name that this package gives its attention.
        lm.config._attn_implementation = lm.own_attention
        with no_bars():
            if merged and isinstance(model, PeftModel):
                model = model.merge_and_unload()
            model.save_pretrained(folder, state_dict=weights)
    finally:
        lm.config._attn_implementation = implementation


def _tied_head(lm: LanguageModel, whole: dict[str, Tensor] | None) -> dict[str, Tensor]:
    """Return the output projection by its name if it is the input embedding, else nothing."""
    model: Any = lm.model
    given, made = model.get_input_embeddings(), model.get_output_embeddings()
    if made is None or made.weight is not given.weight:
        return {}
    names = {module: name for name, module in model.named_modules()}
    weight = given.weight if whole is None else whole[f"{names[given]}.weight"]
    return {f"{names[made]}.weight": weight.detach().contiguous()}


def _saved(lm: LanguageModel) -> dict[str, Tensor]:
    """Return the tensors that are saved of a model, by name: of one with adapters, the adapters alone."""
    adapters, parameters = isinstance(lm.model, PeftModel), dict(lm.model.named_parameters(remove_duplicate=False))
    once = {name for name, parameter in lm.model.named_parameters() if parameter.requires_grad or not adapters}  # tied weights under one name
    return {name: tensor for name, tensor in lm.model.state_dict().items() if name in once or (name not in parameters and not adapters)}
