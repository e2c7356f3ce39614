"""A copy of a model for servers that reload all weights: vLLM 0.32 on a CPU goes on with the old output projection where that is the input embedding."""

from __future__ import annotations

from pathlib import Path

__all__ = ["untied"]


def untied(source: Path, folder: Path) -> Path:
    """Return a folder with the model of another one, whose output projection is a matrix of its own; it is made if it is not there."""
    from torch.nn import Parameter
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from steptool_env.files import replacing_folder

    if not folder.is_dir():
        model = AutoModelForCausalLM.from_pretrained(source)
        model.get_output_embeddings().weight = Parameter(model.get_input_embeddings().weight.detach().clone())
        model.config.tie_word_embeddings = False
        with replacing_folder(folder) as temporary:
            model.save_pretrained(temporary)
            AutoTokenizer.from_pretrained(source).save_pretrained(temporary)
    return folder
