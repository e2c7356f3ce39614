"""A model's weights as other programs read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel

from steptool_env.files import replacing_folder

from .language_model import LanguageModel

__all__ = ["export_model"]


def export_model(lm: LanguageModel, folder: Path) -> Path:
    """Save adapters, or all weights with the tokenizer, as other programs read them; return the folder.

    It appears with everything in it or not at all; one that is there already is replaced.

    Args:
        lm: A ``peft`` model gives its adapters (``adapter_model.safetensors``), any other all weights (``model.safetensors``). The value
            head stays here.
        folder: Where to.
    """
    model: Any = lm.model
    implementation = lm.config._attn_implementation
    with replacing_folder(folder) as temporary:
        try:
            # A name that only this package knows must not stand in the file that a server reads.
            lm.config._attn_implementation = "sdpa"
            model.save_pretrained(temporary)
        finally:
            lm.config._attn_implementation = implementation
        if not isinstance(model, PeftModel):
            lm.tokenizer.save_pretrained(temporary)
    return folder
