"""Every architecture: tiny random models of it load, play, and learn from what they sampled.

    python benchmarks/architectures.py                 # all of them; writes benchmarks/results/architectures.md
    python benchmarks/architectures.py gemma3_text mamba2

For each: a model with random weights is saved with a tokenizer and loaded from the folder as a user's model is. It plays three episodes,
whose prompts begin alike and are longer than every sliding window; the log-probabilities that were recorded while sampling are
compared with those of a training pass, padded, with and without gradient checkpointing. Then a run of ``step-ppo`` makes an update and is
resumed for another one, and another run makes one with LoRA.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from steptool_agents.algorithms.step_ppo import train
from steptool_agents.config import Config
from steptool_agents.generation.choice import Way
from steptool_agents.learning.passes import Passes
from steptool_agents.models.language_model import LanguageModel
from steptool_agents.models.loading import TINY, load_model
from steptool_agents.policies.local import LMPolicy
from steptool_agents.rollouts.collect import rollout
from steptool_agents.trajectory import Trajectory
from steptool_env.env import StepToolEnv

RESULTS = Path(__file__).parent / "results" / "architectures.md"
TOLERANCE = 1e-4
"""Largest difference of a log-probability between sampling and training, in float32."""

WINDOW = {"sliding_window": 8}
BOTH = {"layer_types": ["sliding_attention", "full_attention"], **WINDOW}
LINEAR = {"layer_types": ["linear_attention", "full_attention"]}
MLA = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4}
EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 1, "topk_group": 1}
EXPERTS |= {"first_k_dense_replace": 1, "n_shared_experts": 1}
LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
QWEN = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "head_dim": 8}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_chunk_size": 8}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    # full attention
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "gemma": {"head_dim": 8},
    "phi": {},
    "phi3": {},
    "gpt_neox": {},
    "gpt2": GPT,
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "olmo": {},
    "olmo2": {},
    "smollm3": {},
    "granite": {"logits_scaling": 4.0},
    "glm": {"head_dim": 8},
    "glm4": {"head_dim": 8},
    "starcoder2": {},
    "hunyuan_v1_dense": {"head_dim": 8},
    "ernie4_5": {"head_dim": 8},
    "seed_oss": {"head_dim": 8},
    "arcee": {},
    "helium": {"head_dim": 8},
    "apertus": {},
    "cohere": {},
    "stablelm": {},
    "nemotron": {},
    "nanochat": {},
    "bitnet": {},
    "persimmon": {},
    "biogpt": {},
    "xglm": {"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4},
    "gpt_bigcode": GPT,
    # mixtures of experts
    "qwen2_moe": QWEN,
    "qwen3_moe": {**QWEN, "head_dim": 8},
    "mixtral": LOCAL,
    "granitemoe": LOCAL,
    "glm4_moe": {**EXPERTS, "head_dim": 8},
    "olmoe": QWEN,
    "dots1": {**EXPERTS, "head_dim": 8},
    "minimax_m2": {**LOCAL, "head_dim": 8},
    "phimoe": LOCAL,
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16, "head_dim": 8},
    # sliding windows, chunks, sinks, capped scores
    "mistral": WINDOW,
    "ministral": {**WINDOW, "head_dim": 8},
    "gemma2": {**BOTH, "head_dim": 8},
    "gemma3_text": {**BOTH, "head_dim": 8},
    "olmo3": BOTH,
    "cohere2": BOTH,
    "exaone4": BOTH,
    "gpt_oss": {**LOCAL, **BOTH, "head_dim": 8},
    "vaultgemma": {**BOTH, "head_dim": 8},
    "granite_swa": {**BOTH},
    "llama4_text": {
        **LOCAL,
        "head_dim": 8,
        "attention_chunk_size": 8,
        "intermediate_size_mlp": 48,
        "layer_types": ["chunked_attention", "full_attention"],
        "no_rope_layers": [1, 0],
    },
    "mimo_v2_flash": {**EXPERTS, **BOTH, "head_dim": 8, "v_head_dim": 8},
    "gemma3n_text": {**BOTH, "head_dim": 8, "num_kv_shared_layers": 0, "vocab_size_per_layer_input": 1079},
    # latent attention
    "deepseek_v2": {**MLA, **EXPERTS},
    "deepseek_v3": {**MLA, **EXPERTS},
    "glm4_moe_lite": {**MLA, **EXPERTS},
    "minicpm3": MLA,
    "youtu": MLA,
    # attention of their own
    "bloom": {"n_layer": 2, "n_head": 4},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512},
    "falcon": {"alibi": False},
    "falcon alibi": {"alibi": True},
    "gptj": {**GPT, "rotary_dim": 4, "n_positions": 512},
    "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 8},
    "codegen": {**GPT, "rotary_dim": 4},
    "diffllama": {},
    "doge": {},
    "deepseek_v32": {**MLA, **EXPERTS, "index_topk": 8, "index_n_heads": 32, "index_head_dim": 8},
    # linear attention, state spaces, convolutions
    "qwen3_next": {**LINEAR, **QWEN, **DELTA},
    "qwen3_5_text": {**LINEAR, **DELTA},
    "qwen3_5_moe_text": {**LINEAR, **QWEN, **DELTA},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 64},
    "granitemoehybrid": {**MAMBA, **LOCAL, "layer_types": ["mamba", "attention"], "shared_intermediate_size": 16},
    "bamba": {**MAMBA, "attn_layer_indices": [1]},
    "minimax": {**LOCAL, **LINEAR, "head_dim": 8, "block_size": 8},
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8, "expand": 2},
    "falcon_mamba": {"state_size": 8},
    "jamba": {
        "attn_layer_offset": 1,
        "attn_layer_period": 2,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
    },
    "nemotron_h": {
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 8,
        "head_dim": 8,
        "hybrid_override_pattern": "M*",
    },
    "zamba2": {
        **MAMBA,
        "n_mamba_heads": 8,
        "mamba_ngroups": 1,
        "chunk_size": 8,
        "num_mem_blocks": 1,
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
    },
    "recurrent_gemma": {"lru_width": 32, "attention_window_size": 8, "block_types": ["recurrent", "attention"], "head_dim": 8},
    "rwkv": {"attention_hidden_size": 32},
    "xlstm": {"num_heads": 4, "num_blocks": 2, "qk_dim_factor": 1.0, "hidden_size": 64},
    "kimi_linear": {**MLA, **LINEAR, **EXPERTS, "linear_head_dim": 8, "linear_num_heads": 4, "num_experts": 4},
    "olmo_hybrid": {**LINEAR, **DELTA},
}
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
NOTES = dict.fromkeys(("nemotron_h", "zamba2"), ": its code for a single token leaves out the lower limit of the time step")
"""What is known of those that are not green."""


SETTINGS: dict[str, Any] = {
    "suite_options": {"level": 1},
    "demos": 2,
    "demo_batch": 2,
    "demo_epochs": 1,
    "updates": 1,
    "episodes": 3,
    "eval_episodes": 1,
    "max_new_tokens": 48,  # some classes of tokenizers, chosen by the model, cut the small vocabulary into more pieces
    "max_steps": 3,
    "bfloat16": False,
}
"""Of the runs of ``step-ppo``."""


def model_type(name: str) -> str:
    """Return the name that ``transformers`` has for an architecture of the table, which may add a word of its own."""
    return name.split()[0]


def build(name: str, folder: Path, seed: int = 0) -> Path:
    """Save a tiny random model of an architecture with a tokenizer; return the folder.

    Every weight is random, those of norms, biases and states too, and large enough that no part of the model is negligible.
    """
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    torch.manual_seed(seed)
    ends = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    config = AutoConfig.for_model(model_type(name), **{**SIZES, "vocab_size": len(tokenizer), **ends, **ARCHITECTURES[name]})
    config.steptool_prompt = "terse"
    model: Any = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            else:
                parameter.normal_(0.0, min(0.3, parameter.shape[-1] ** -0.5))
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    model.save_pretrained(folder)
    if shown:
        transformers_logging.enable_progress_bar()
    tokenizer.save_pretrained(folder)
    return folder


def play(lm: LanguageModel, episodes: int = 3) -> list[Trajectory]:
    """Play episodes whose prompts begin alike, and are longer than every window of the table."""
    envs = [StepToolEnv("worlds", level=1, max_steps=3) for _ in range(episodes)]
    played = rollout(LMPolicy(lm, max_new_tokens=12, seed=1), envs, list(range(episodes)))
    assert all(len(one.steps) > 1 and len(one.steps[0].generation.prompt_ids) > 24 for one in played)
    return played


def difference(lm: LanguageModel, played: list[Trajectory], *, gradient: bool = False) -> float:
    """Return the largest difference between what was recorded while sampling and a training pass over all episodes at once."""
    worst = 0.0
    with torch.set_grad_enabled(gradient):
        for encoded in Passes(lm).encode([tuple(played)]):
            found, old = encoded.logprobs().detach(), encoded.batch.old_logprobs
            assert len(found) == sum(len(step.generation.token_ids) for one in played for step in one.steps)
            worst = max(worst, float((found - old).abs().max()))
    return worst


def check(name: str, folder: Path, *, learn: bool = True) -> dict[str, Any]:
    """Return what was found out about an architecture; ``reason`` says why it is not green, "" if it is.

    ``learn``: whether it makes updates, too.
    """
    found: dict[str, Any] = {"name": name, "parameters": 0, "engine": "", "sampled": None, "recompute": None, "all": False, "lora": False, "reason": ""}
    start = time.perf_counter()
    try:
        build(name, folder / "model")
    except Exception as fault:
        return found | {"reason": f"cannot be built: {type(fault).__name__}: {str(fault).splitlines()[0][:160] if str(fault) else ''}"}
    try:
        lm = load_model(str(folder / "model"), bfloat16=False)
        found["parameters"] = sum(parameter.numel() for parameter in lm.model.parameters())
        played = play(lm)
        found["engine"] = engine(lm.way)
        found["sampled"] = difference(lm, played)
        if found["sampled"] > TOLERANCE:
            return found | {"reason": f"sampling and training differ by {found['sampled']:.1e}{NOTES.get(name, '')}"}
        if lm.model.supports_gradient_checkpointing:
            again = load_model(str(folder / "model"), bfloat16=False, recompute=True)
            found["recompute"] = difference(again, played, gradient=True)
            if found["recompute"] > TOLERANCE:
                return found | {"reason": f"with gradient checkpointing it differs by {found['recompute']:.1e}"}
        del lm
        for kind, rank in (("all", 0), ("lora", 2)) if learn else ():
            config = Config.of(name=str(folder / "model"), lora_rank=rank, seed=1, **SETTINGS)
            train(config, folder / kind)
            if kind == "all":
                train(config.replace(updates=2), folder / kind, resume=True)
            found[kind] = True
    except Exception as fault:
        found["reason"] = f"{type(fault).__name__}: {str(fault).splitlines()[0][:200] if str(fault) else ''}"
    return found | {"seconds": time.perf_counter() - start}


def engine(way: Way) -> str:
    """Return in words how a model plays."""
    if way.shared:
        return "shared cache"
    return "own caches, " + ("together" if way.batched else "apart") + ("" if way.chunked else ", read token by token")


def page(rows: list[dict[str, Any]], command: str) -> str:
    green = [row for row in rows if not row["reason"]]
    shared = sum(row["engine"] == "shared cache" for row in green)
    lines = ["# Architectures", "", f"`{command}`", ""]
    lines += [
        f"{len(green)} of {len(rows)} architectures are green, {shared} of them with the shared cache. Tiny random models, loaded from a folder; three "
        f"episodes; the sampled log-probabilities are those of a training pass (within {TOLERANCE:g}, float32), also with gradient checkpointing where it "
        "has that; `step-ppo` with all weights, resumed, and with LoRA. Windows and chunks are 8 tokens, so that they bind.",
        "",
    ]
    lines += ["| architecture | plays with | sampling − training | with checkpointing | all weights | LoRA | |", "|---|---|---|---|---|---|---|"]

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.0e}"

    for row in sorted(rows, key=lambda row: (bool(row["reason"]), row["name"])):
        ticks = " | ".join("yes" if row[kind] else "no" for kind in ("all", "lora"))
        lines.append(f"| {row['name']} | {row['engine']} | {number(row['sampled'])} | {number(row['recompute'])} | {ticks} | {row['reason']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="architectures; all by default")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    logging.getLogger("steptool_agents").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    rows = []
    for name in options.names or ARCHITECTURES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(check(name, Path(folder)))
        print(
            f"{name:20} {rows[-1]['engine']:30} {rows[-1]['sampled']} {rows[-1]['reason'] or 'green'} {rows[-1].get('seconds', 0):.1f}s",
            file=sys.stderr,
            flush=True,
        )
    if options.json:
        print(json.dumps(rows))
        return
    text = page(rows, shlex.join(["python", "benchmarks/architectures.py", *sys.argv[1:]]))
    print(text)
    if not options.names:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
