"""Loads models by name: ``tiny`` (embedded), one that comes with a package (``packaged.py``), or any folder or hub name."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from steptool_env.errors import InvalidArgument, UnknownName, did_you_mean, missing_extra

try:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

    from .adapters import adapt
    from .bars import no_bars
    from .language_model import LanguageModel
    from .norms import fuse_norms
    from .packaged import PACKAGED, converted
    from .products import fast_products
except ImportError as fault:
    raise missing_extra("a language model", fault) from fault

__all__ = ["MODELS", "load_model", "pick_device"]

MODELS = ("tiny", *PACKAGED)
"""The names that need no hub; every other name is a folder or a model of the Hugging Face hub."""

TINY = Path(__file__).parent / "tiny"
"""The embedded model, made by ``experiments/tiny_pretraining.py``."""

_STATE_SPACES = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
_NO_ADAPTERS = ["out_proj", "conv1d"]
"""In these architectures kernels read the weights of these modules themselves, past any adapter; peft refuses to put one there."""


def load_model(
    name: str, *, seed: int = 0, lora_rank: int = 0, bfloat16: bool | None = None, recompute: bool | str = False, device: str = "auto"
) -> LanguageModel:
    """Load a model with its tokenizer.

    Args:
        name: One of ``MODELS``, a folder (also of ``peft``'s adapters, which are then added to the weights of their model), or a hub name such
            as ``"Qwen/Qwen3-0.6B"``.
        seed: Seeds new weights (adapters, value head).
        lora_rank: Train low-rank adapters of this rank (``peft``) instead of all weights; 0 trains all.
        bfloat16: Run forward passes in bfloat16 (autocast); weights stay in float32. None: if the model is pretrained and
            the device is faster with it.
        recompute: Gradient checkpointing, see ``recompute.py``.
        device: A torch device, or ``"auto"``, see ``pick_device``.

    Raises:
        InvalidArgument: There is no such device, or a value is out of range.
        UnknownName: The name is neither one of ``MODELS``, nor a folder, nor a model of the hub.
        MissingExtra: A packaged model without its package.
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
    adapt(model)
    fuse_norms(model)
    fast_products(model)
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
    source = str(TINY) if name == "tiny" else str(converted(name)) if name in PACKAGED else name
    if source == name and "/" not in name and not Path(name).exists() and did_you_mean(name, MODELS):
        raise UnknownName("model", name, [*MODELS, "a folder", "a hub name"])  # a slip: no need to ask the hub, which takes long where there is no network
    try:
        with no_bars():
            tokenizer = AutoTokenizer.from_pretrained(source)
            adapted = (Path(source) / "adapter_config.json").is_file() and not (Path(source) / "config.json").is_file()
            # With the attention that it has.
            model = _merged(source) if adapted else AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as fault:
        if Path(source).exists():
            raise InvalidArgument(f"{source!r} holds no causal language model: {str(fault).splitlines()[0]}") from fault
        raise UnknownName("model", name, [*MODELS, "a folder", "a hub name"]) from fault
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def _merged(folder: str) -> PreTrainedModel:
    """Return the model that a folder of adapters belongs to, with these adapters added to its weights."""
    from peft import PeftConfig, PeftModel

    base: Any = None
    try:
        base = PeftConfig.from_pretrained(folder).base_model_name_or_path
        model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder)
        return model.merge_and_unload()  # type: ignore[no-any-return]
    except (TypeError, LookupError, RuntimeError) as fault:
        raise ValueError(f"its adapters cannot be added to the model {base!r}: {fault}") from fault
