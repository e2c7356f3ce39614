"""The language-model policy: what it samples with its cache is what the plain model says about the whole sequence."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from lms import KINDS, Conversation, act, check, from_scratch, language_model, play, vocabulary

from steptool_agents.models.attention import ATTENTION
from steptool_agents.policies.local import LMPolicy
from steptool_env.errors import InvalidArgument
from steptool_env.formats import make_format
from steptool_env.types import Malformed, ToolCall


@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.7])
@pytest.mark.parametrize("kind", KINDS)
def test_the_cache_changes_nothing(kind: str, temperature: float) -> None:
    lm = language_model(kind)
    check(lm, play(LMPolicy(lm, temperature=temperature, max_new_tokens=9)), temperature)


@pytest.mark.parametrize("before", ["eager", "sdpa"])
def test_the_attention_that_a_model_came_with_does_not_matter(before: str) -> None:
    lm = language_model("llama", attn_implementation=before)
    assert lm.config._attn_implementation == ATTENTION
    check(lm, play(LMPolicy(lm, max_new_tokens=6)), 1.0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("budget", [1, 90, 400])
def test_the_token_budget_changes_nothing(budget: int, temperature: float) -> None:
    lm = language_model()
    whole, parts = (play(LMPolicy(lm, temperature=temperature, max_new_tokens=6, token_budget=tokens)) for tokens in (10**6, budget))
    assert [[one.token_ids for one in talk.generations] for talk in whole] == [[one.token_ids for one in talk.generations] for talk in parts]


def test_what_else_is_in_the_batch_changes_nothing() -> None:
    lm = language_model()
    together = play(LMPolicy(lm, temperature=0.0, max_new_tokens=6))
    for talk in together:
        policy, alone = LMPolicy(lm, temperature=0.0, max_new_tokens=6), Conversation(talk.messages[0].content)
        for one, message in zip(talk.generations, talk.messages[2::2], strict=True):
            act(policy, [alone])
            assert alone.generations[-1].token_ids == one.token_ids
            assert alone.generations[-1].prompt_ids == one.prompt_ids
            alone.answer(message.content)


def test_each_token_is_encoded_once() -> None:
    lm = language_model()
    policy = LMPolicy(lm, temperature=0.0, max_new_tokens=5)
    seen: list[int] = []
    policy.on_tokens = lambda read, written: seen.append(read)
    talk = Conversation("What is it? " * 20)
    for _ in range(3):
        act(policy, [talk])
        talk.answer("It is A17.")
    assert seen[0] > 60 > 20 > max(seen[1:])
    assert policy._engine.cache.get_seq_length() == len(talk.ids) - 1  # the last token waits for what follows it


def test_seeds() -> None:
    lm = language_model()

    def sampled(seed: int) -> list[Any]:
        return [talk.generations for talk in play(LMPolicy(lm, seed=seed, max_new_tokens=6))]

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)


def test_sampling_follows_the_probabilities() -> None:
    lm = language_model()
    talks = [Conversation("Which?") for _ in range(1500)]
    act(LMPolicy(lm, max_new_tokens=1), talks)
    probabilities = from_scratch(lm, talks[0].generations[0].prompt_ids)[0][-1].exp()
    counts = torch.bincount(torch.tensor([talk.generations[0].token_ids[0] for talk in talks]), minlength=vocabulary()) / len(talks)
    top = probabilities.topk(5).indices
    # Standard deviation of a share: at most sqrt(0.25 / 1500) = 0.013; five of them make 0.065.
    torch.testing.assert_close(counts[top], probabilities[top], atol=0.065, rtol=0)


# ---------------------------------------------------------------- the end of an action
def scripted(monkeypatch: pytest.MonkeyPatch, policy: LMPolicy, tokens: list[int]) -> None:
    """Let the policy choose these tokens, one after the other, then the last one again and again."""
    rest = iter(tokens)
    last = [tokens[-1]]

    def choose(logits: torch.Tensor) -> tuple[list[int], list[float]]:
        last[0] = next(rest, last[0])
        return [last[0]] * len(logits), [-1.0] * len(logits)

    monkeypatch.setattr(policy._engine, "_sample", choose)


@pytest.mark.parametrize("glue", [True, False], ids=["words", "bytes"])
def test_an_action_ends_at_a_stop_text_of_several_tokens(monkeypatch: pytest.MonkeyPatch, glue: bool) -> None:
    lm = language_model()
    policy = LMPolicy(lm, "react", max_new_tokens=60)
    encode = lm.tokenizer.encode
    call, stop, more = "Action: look\nAction Input: {}", "\nObservation", ": the rest"
    end = encode(stop) if glue else [token for letter in stop for token in encode(letter)]
    assert len(end) > (1 if glue else 8)
    scripted(monkeypatch, policy, [*encode(call), *end, *encode(more)])
    talk = Conversation("Look.")
    act(policy, [talk])
    assert talk.generations[0].text == call + stop
    assert talk.generations[0].action == ToolCall("look")


@pytest.mark.parametrize("stop", [" \n", "é", "漢", ">>"])
def test_any_text_can_be_a_stop_text(monkeypatch: pytest.MonkeyPatch, stop: str) -> None:
    """Also one whose last character the vocabulary spells in another way, or in several tokens."""
    lm = language_model()
    form = make_format("hermes")
    form.stop = (stop,)
    policy = LMPolicy(lm, form, max_new_tokens=60)
    scripted(monkeypatch, policy, lm.tokenizer.encode("no call" + stop + "the rest"))
    talk = Conversation("Look.")
    act(policy, [talk])
    assert talk.generations[0].text == "no call" + stop


@pytest.mark.parametrize("whole", [False, True])
def test_an_action_ends_at_a_stop_text_of_one_token(monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    """The closing tag is a token of its own, or stands at the end of one."""
    lm = language_model()
    if whole:
        lm.tokenizer = copy.deepcopy(lm.tokenizer)
        lm.tokenizer.add_tokens("</tool_call>")
    policy = LMPolicy(lm, max_new_tokens=60)
    call = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'
    assert (len(lm.tokenizer.encode("</tool_call>")) == 1) == whole
    scripted(monkeypatch, policy, lm.tokenizer.encode(call + " and more"))
    talk = Conversation("Look.")
    act(policy, [talk])
    assert (talk.generations[0].text, talk.generations[0].action) == (call, ToolCall("look"))


def test_an_action_ends_with_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = language_model()
    policy = LMPolicy(lm, max_new_tokens=60)
    scripted(monkeypatch, policy, [*lm.tokenizer.encode("no call"), 1, 5, 5])
    talk = Conversation("Look.")
    act(policy, [talk])
    assert talk.generations[0].text == "no call"  # without the end-of-turn token …
    assert talk.generations[0].token_ids[-1] == 1  # … which was sampled all the same
    assert isinstance(talk.generations[0].action, Malformed)


def test_the_longest_action() -> None:
    talk = Conversation("Look.")
    act(LMPolicy(language_model(), max_new_tokens=7), [talk])
    assert len(talk.generations[0].token_ids) <= 7


def test_broken_weights_are_reported() -> None:
    lm = language_model()
    torch.nn.init.constant_(lm.value_head.value.bias, float("nan"))
    with pytest.raises(InvalidArgument, match="NaN or infinity"):
        act(LMPolicy(lm), [Conversation("Look.")])


# ---------------------------------------------------------------- the context window
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_full_context_window_is_a_malformed_action(kind: str) -> None:
    lm = language_model(kind, context=120)
    policy = LMPolicy(lm, max_new_tokens=8)
    long, short = Conversation("Look."), Conversation("Look again.")
    for text in ("word " * 40, "word " * 60, "x", "y"):
        act(policy, [long, short])
        long.answer(text)
        short.answer("x")
    full = [isinstance(one.action, Malformed) and "context window of 120 tokens is full" in one.action.reason for one in long.generations]
    assert full[0] is False
    assert full[2:] == [True, True]  # once full, always full: what was left out cannot be read later
    assert all(one.prompt_ids == one.token_ids == () and one.value == 0.0 for one, over in zip(long.generations, full, strict=True) if over)
    assert len(long.ids) <= 120
    check(lm, [short], 1.0)
    check(lm, [beginning(long, full.index(True))], 1.0)


def beginning(talk: Conversation, steps: int) -> Conversation:
    shorter = Conversation("")
    shorter.generations = talk.generations[:steps]
    return shorter


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_prompt_that_does_not_fit(kind: str) -> None:
    policy = LMPolicy(language_model(kind, context=100), max_new_tokens=8)
    alone = Conversation("word " * 300)
    for _ in range(3):
        act(policy, [alone])
        alone.answer("x")
    assert alone.ids == []
    fits = Conversation("Look.")
    act(policy, [alone, fits])
    assert fits.generations[0].token_ids
    check(policy.lm, [fits], 1.0)


def test_a_context_that_is_shorter_than_every_prompt_is_an_error() -> None:
    lm = language_model(context=100)
    policy = LMPolicy(lm, max_new_tokens=8)
    talks = [Conversation("word " * (300 + k)) for k in range(16)]
    with pytest.raises(InvalidArgument, match=r"\(llama\): none of the first 16 observations fits into the 92 tokens .* choose a model with a longer context"):
        act(policy, talks)
    policy = LMPolicy(lm, max_new_tokens=8)
    act(policy, [*talks[:15], Conversation("Look."), *talks[15:]])
    with pytest.raises(InvalidArgument, match="its context ends 1 tokens before an action"):
        LMPolicy(lm, max_new_tokens=100)


def test_the_window_is_used_to_its_end() -> None:
    lm = language_model(context=100)
    talk = Conversation("Look.")
    room = 100 - len(LMPolicy(lm).prompts.prompt(talk.observation))
    for longest, fits in ((room, True), (room + 1, False)):
        again = Conversation("Look.")
        act(LMPolicy(lm, max_new_tokens=longest), [again])
        assert bool(again.ids) is fits


# ---------------------------------------------------------------- episodes
def test_forgetting() -> None:
    lm = language_model()
    policy = LMPolicy(lm, temperature=0.0, max_new_tokens=5)
    talk = Conversation("Look.")
    act(policy, [talk])
    talk.answer("A17")
    policy.forget()
    act(policy, [talk])
    assert len(talk.generations[1].prompt_ids) > len(talk.generations[0].prompt_ids)  # the whole transcript again


def test_a_new_episode_in_the_same_environment() -> None:
    policy = LMPolicy(language_model(), temperature=0.0, max_new_tokens=5)
    talk = Conversation("Look.")
    for _ in range(2):
        act(policy, [talk])
        assert talk.generations[0] == talk.generations[-1]


def test_an_episode_that_missed_a_batch_is_read_again() -> None:
    lm = language_model()
    policy = LMPolicy(lm, temperature=0.0, max_new_tokens=5)
    talk, other = Conversation("Look."), Conversation("Wait.")
    act(policy, [talk, other])
    talk.answer("A17")
    act(policy, [other])
    act(policy, [talk])
    again = Conversation("")
    again.generations = [talk.generations[-1]]
    check(lm, [again], 0.0)
