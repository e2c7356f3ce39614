"""``tiny``: a language model of about a million parameters that needs no download.

A Llama of ``transformers`` with random weights, and a byte-level BPE tokenizer whose merges are learnt from generated
``worlds`` episodes: any text can be encoded, what the tools say takes few tokens.
"""

from __future__ import annotations

import functools
import json

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from steptool_env.env import StepToolEnv
from steptool_env.formats import make_format
from steptool_env.tasks.worlds import Worlds

__all__ = ["build_model", "build_tokenizer"]

_PIECES = r'\{"name": "|", "arguments": \{"|"\}\}|": "?|"?, "|\{"|"?\}|\d{1,2}| ?[A-Za-z_]+|[^\sA-Za-z\d_]+|\s+'
"""Glue of JSON calls, pairs of digits, words, the rest: no merge crosses these borders, so ids share their number tokens."""

_SPECIAL = ("<pad>", "<end>")
_TAGS = ("<tool_call>", "</tool_call>")


@functools.cache
def _trained() -> str:
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_PIECES), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1536,
        min_frequency=2,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in _TAGS])
    return str(tokenizer.to_str())


def _corpus() -> list[str]:
    hermes = make_format("hermes")
    texts = [" ".join(f"{number:02d}" for number in range(100)), "Tools: Task: Error: true false null"] * 20
    env = StepToolEnv(Worlds(level=3, depth=(1, 6)))
    for index in range(600):
        observation, _ = env.reset(options={"task": index})
        texts.append(observation["messages"][0].content)
        texts += ["".join(f" {schema['function']['name']}" for schema in json.loads(observation["tools"]))]
        for call in env.solution():
            texts.append(hermes.render(call).removeprefix(_TAGS[0]).removesuffix(_TAGS[1]))
            texts.append(env.step(call)[0]["messages"][-1].content)
    return texts


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer of ``tiny``; the same everywhere, built once per process in about a second."""
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(_trained()), pad_token=_SPECIAL[0], eos_token=_SPECIAL[1])


def build_model(seed: int, vocabulary: int) -> LlamaForCausalLM:
    """Return the model with random weights.

    Args:
        seed: Seeds the weights; the global random state is left as it was.
        vocabulary: Number of tokens.
    """
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    config.steptool_prompt = "terse"  # how prompts are written for this model, see prompts.py; saved with the config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
