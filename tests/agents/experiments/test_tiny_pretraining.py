"""How the embedded model is made: any text can be encoded, and some steps of it give a model that loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lms import tokenizer
from transformers import PreTrainedTokenizerFast

from steptool_agents.chat.plain import PlainPrompts
from steptool_agents.experiments.tiny_pretraining import TASKS, _episode, build_tokenizer, new_model, pretrain
from steptool_agents.models.loading import load_model
from steptool_env.env import StepToolEnv
from steptool_env.formats import make_format
from steptool_env.tasks.worlds import Worlds
from steptool_env.types import ToolCall

EMBEDDED = tokenizer()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.fixture(scope="module")
def fresh() -> PreTrainedTokenizerFast:
    return build_tokenizer()


def round_trip(its: PreTrainedTokenizerFast, text: str) -> str:
    return str(its.decode(its.encode(text, add_special_tokens=False), skip_special_tokens=False, clean_up_tokenization_spaces=False))


@given(TEXT)
def test_any_text_comes_back(text: str) -> None:
    assert round_trip(EMBEDDED, text) == text


@given(TEXT, st.dictionaries(TEXT, st.one_of(TEXT, st.integers(), st.lists(TEXT, max_size=2)), max_size=2))
def test_any_call_comes_back(name: str, arguments: dict[str, object]) -> None:
    hermes, call = make_format("hermes"), ToolCall(name, arguments)
    assert hermes.parse(round_trip(EMBEDDED, hermes.render(call))) == call


@pytest.mark.parametrize("text", ["", " ", "\n\n", "  a  b ", '{"name": "x"}', "<tool_call>{}</tool_call>", "Zoë 🙂 漢字", "00 1 12 123 A17", "\x00\x7f"])
def test_a_fresh_tokenizer(fresh: PreTrainedTokenizerFast, text: str) -> None:
    assert round_trip(fresh, text) == text


def test_what_the_tokenizer_is_made_for(fresh: PreTrainedTokenizerFast) -> None:
    assert fresh.pad_token_id == 0
    assert fresh.eos_token_id == 1
    call = make_format("hermes").render(ToolCall("get_order", {"order_id": "O20"}))
    pieces = [fresh.decode([token]) for token in fresh.encode(call)]
    assert pieces == ['<tool_call>{"name": "', "get_order", '", "arguments": {"order_id": "', "O", "20", '"}}</tool_call>']
    for number in range(100):
        assert len(fresh.encode(f"{number:02d}")) == 1  # two digits are one token: all ids share them
    assert len(fresh) < 2000


def test_weights_follow_the_seed() -> None:
    weights = [new_model(300, seed).get_input_embeddings().weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_first_heads_look_back() -> None:
    """Before any training, head j of the first layer looks at the token j + 1 places back, whatever the tokens."""
    model: Any = new_model(300, 0)
    model.config._attn_implementation = "eager"
    ids = torch.randint(300, (1, 30), generator=torch.Generator().manual_seed(0))
    attention = model(ids, output_attentions=True).attentions[0][0]  # (heads, L, L)
    for head in range(4):
        assert (attention[head, 10:].argmax(-1) == torch.arange(10, 30) - head - 1).all()
        assert attention[head, 29, 28 - head] > 0.9
    assert attention[4:, 29].max() < 0.5


def test_only_the_oracle_is_learnt_from() -> None:
    """What is learnt are whole calls of the oracle; mistakes and results are read only."""
    hermes = make_format("hermes")
    env = StepToolEnv(Worlds(level=2, depth=(1, 2), replies="field", **TASKS))
    prompts, rng = PlainPrompts(EMBEDDED, hermes, terse=True), np.random.default_rng(0)
    slips = 0
    for task in range(20):
        ids, answer = _episode(env, prompts, task, 0.4, rng)
        assert len(ids) == len(answer)
        assert env.episode is not None and env.episode[-1].outcome is not None and env.episode[-1].outcome.solved == 1.0
        learnt = EMBEDDED.decode([token for token, learn in zip(ids, answer, strict=True) if learn])
        env.reset(options={"task": task})
        assert learnt == "".join(hermes.render(call) for call in env.solution())
        slips += EMBEDDED.decode(ids).count("</tool_call>") > len(env.solution())
    assert slips > 3


@pytest.mark.slow
def test_some_steps_give_a_model_that_loads(tmp_path: Path) -> None:
    loss = pretrain(3, 4, folder=tmp_path)
    assert 0 < loss < 20
    lm = load_model(str(tmp_path))
    assert lm.config.steptool_prompt == "terse"
    assert lm.config.vocab_size == len(lm.tokenizer)
    assert lm.context == 2048
    assert round_trip(lm.tokenizer, "What is the 🙂?") == "What is the 🙂?"
