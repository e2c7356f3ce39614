"""Export of a model's weights in the formats of ``transformers`` and ``peft``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel

from steptool_env.files import replacing_folder

from .language_model import LanguageModel

__all__ = ["export_model"]


def export_model(lm: LanguageModel, folder: Path) -> Path:
    """Save adapters, or all weights with the tokenizer, in a form that other programs load; return the folder.

    The folder appears complete or not at all; an existing one is replaced.

    Args:
        lm: Of a ``peft`` model the adapters are saved (``adapter_model.safetensors``), of any other all weights
            (``model.safetensors``). The value head is not part of the export.
        folder: Where to save.
    """
    model: Any = lm.model
    implementation = lm.config._attn_implementation
    with replacing_folder(folder) as temporary:
        try:
            # Servers do not know the name that this package gives its attention.
            lm.config._attn_implementation = lm.own_attention
            model.save_pretrained(temporary)
        finally:
            lm.config._attn_implementation = implementation
        if not isinstance(model, PeftModel):
            lm.tokenizer.save_pretrained(temporary)
    return folder
