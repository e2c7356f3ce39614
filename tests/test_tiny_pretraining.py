"""How the embedded model is made: any text can be encoded, and some steps of it give a model that loads."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lms import tokenizer
from transformers import PreTrainedTokenizerFast

from steptool_agents.models import load_model
from steptool_agents.tiny_pretraining import _document, build_tokenizer, new_model, pretrain
from steptool_env.formats import make_format
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
    for tag in ("<tool_call>", "</tool_call>"):
        assert len(fresh.encode(tag)) == 1
    for number in range(100):
        assert len(fresh.encode(f"{number:02d}")) == 1  # two digits are one token: all ids share them
    assert len(fresh) < 2000


def test_weights_follow_the_seed() -> None:
    weights = [new_model(300, seed).get_input_embeddings().weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("fields", [2, 5])
def test_answers_stand_in_the_record(fields: int) -> None:
    rng = random.Random(1)
    for _ in range(20):
        ids, answer = _document(rng, EMBEDDED, fields)
        assert len(ids) == len(answer)
        assert any(answer) and not all(answer)
        first = answer.index(True)
        last = first
        while answer[last]:
            last += 1
        assert EMBEDDED.decode(ids[first:last]) in EMBEDDED.decode(ids[:first])


def test_some_steps_give_a_model_that_loads(tmp_path: Path) -> None:
    loss = pretrain(3, 4, folder=tmp_path)
    assert 0 < loss < 20
    lm = load_model(str(tmp_path))
    assert lm.config.steptool_prompt == "terse"
    assert lm.config.vocab_size == len(lm.tokenizer)
    assert lm.context == 2048
    assert round_trip(lm.tokenizer, "What is the 🙂?") == "What is the 🙂?"
