"""Gradient checkpointing: what is kept, and that adapters learn the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lms import tokenizer, vocabulary
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from steptool_agents.config import Config
from steptool_agents.models.language_model import LanguageModel
from steptool_agents.models.loading import load_model
from steptool_agents.policies.local import LMPolicy
from steptool_agents.rollouts.evaluate import evaluate
from steptool_env import make_suite
from steptool_env.errors import InvalidArgument


class Products(TorchDispatchMode):
    """Counts the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.large = self.small = self.fused = self.other = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operator.overloadpacket.__name__
        if name == "mm":
            self.large, self.small = self.large + (args[0].shape[1] > 64), self.small + (args[0].shape[1] <= 64)
        elif name.startswith("_scaled_dot_product") and "backward" not in name:
            self.fused += 1
        elif name == "silu":
            self.other += 1
        return operator(*args, **(kwargs or {}))


def model(rank: int, recompute: bool | str) -> LanguageModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    base: Any = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary(), **sizes))
    if rank:
        base = get_peft_model(base, LoraConfig(r=rank, target_modules=["q_proj", "o_proj", "up_proj", "down_proj"], init_lora_weights=False))
    lm = LanguageModel(base, tokenizer(), recompute=recompute)
    lm.eval()
    return lm


@pytest.mark.parametrize("rank", [0, 4])
def test_large_products_and_attention_run_once_and_what_is_cheap_twice(rank: int) -> None:
    gradients, counted = {}, {}
    for recompute in (False, "selective", True):
        lm = model(rank, recompute)
        with Products() as counted[recompute]:
            lm.hidden(torch.arange(2, 302)[None] % 40 + 2).square().sum().backward()  # long enough for the fused kernel
        gradients[recompute] = {name: one.grad for name, one in lm.trainable().items() if one.grad is not None}
    none, some, all_ = counted[False], counted["selective"], counted[True]
    assert some.other == all_.other == 2 * none.other
    assert some.fused == none.fused < all_.fused
    assert all_.large - some.large >= 2 * 6  # of each of two layers all but the last, which nothing else needs
    assert some.large - none.large <= bool(rank)  # with adapters, transformers asks for the gradient of the embeddings
    assert (some.small > none.small) == bool(rank)
    for found in (gradients["selective"], gradients[True]):
        assert found.keys() == gradients[False].keys()
        for name, one in gradients[False].items():
            torch.testing.assert_close(found[name], one, atol=1e-4, rtol=1e-3)


def test_playing_keeps_its_cache() -> None:
    """After a pass with gradients, too: transformers leaves the cache out of a layer that recomputes."""
    suite, written = make_suite("worlds", level=1, split="test"), []
    for way in (False, "selective", True):
        lm = load_model("tiny", recompute=way)
        lm.eval()
        lm.hidden(torch.arange(2, 12)[None]).sum().backward()
        _, played = evaluate(LMPolicy(lm, temperature=0.0, max_new_tokens=12), suite, range(3), max_steps=2, width=3)
        written.append([[step.generation.token_ids for step in one.steps] for one in played])
    assert written[0] == written[1] == written[2]


def test_unknown_ways_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="'some'"):
        load_model("tiny", recompute="some")
    with pytest.raises(InvalidArgument, match="gradient_checkpointing"):
        Config.of(gradient_checkpointing="some")
