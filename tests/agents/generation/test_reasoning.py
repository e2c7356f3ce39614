"""A budget of reasoning tokens: where it ends reasoning, and that nothing is learned from what it writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lms import Conversation, act, from_scratch, language_model, passes, tokenizer, trajectory

from steptool_agents.chat.reading import Reading
from steptool_agents.config import Config
from steptool_agents.generation.reasoning import ReasoningBudget
from steptool_agents.learning.advantages import assign_credit
from steptool_agents.learning.batches import action_tokens, collate, length
from steptool_agents.learning.optimizer import policy_optimizer
from steptool_agents.learning.policy_gradient import improve
from steptool_agents.models.language_model import LanguageModel
from steptool_agents.policies.local import LMPolicy
from steptool_agents.trajectory import Trajectory, read_jsonl, write_jsonl
from steptool_env.errors import InvalidArgument
from steptool_env.formats import make_format

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}<assistant><think>\n{% endif %}"
MOST, ALL = 4, 40


def thinking(kind: str = "llama") -> LanguageModel:
    """Return a model with random weights whose prompts open its reasoning."""
    lm = language_model(kind)
    lm.tokenizer = tokenizer()
    lm.tokenizer.chat_template = TEMPLATE
    del lm.config.steptool_prompt
    return lm


def played(lm: LanguageModel, most: int | None = MOST, **options: Any) -> list[Conversation]:
    policy = LMPolicy(lm, max_new_tokens=ALL, max_reasoning_tokens=most, **options)
    talks = [Conversation(task) for task in ("Which?", "What is it?", "Why?")]
    for _ in range(2):
        act(policy, talks)
        for talk in talks:
            talk.answer("A17")
    return talks


@pytest.mark.parametrize("kind", ["llama", "general"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_reasoning_is_ended_within_its_budget_and_the_model_goes_on(kind: str, temperature: float) -> None:
    lm = thinking()
    if kind == "general":
        lm.keep_own_attention()
    closing = lm.tokenizer.encode("\n</think>\n\n", add_special_tokens=False)
    forced = 0
    for talk in played(lm, temperature=temperature):
        logprobs, _ = from_scratch(lm, talk.ids, temperature or 1.0)
        place = 0
        for one in talk.generations:
            place += len(one.prompt_ids)
            begin, end = one.forced
            if end:
                forced += 1
                assert begin == MOST
                assert list(one.token_ids[begin:end]) == closing
                assert one.logprobs[begin:end] == (0.0,) * len(closing)
                assert len(one.token_ids) > end
                assert one.sampled == len(one.token_ids) - len(closing)
            for index, (token, logprob) in enumerate(zip(one.token_ids, one.logprobs, strict=True)):
                if not begin <= index < end:  # what was sampled behind the end has the probabilities of a model that has read it
                    assert logprob == pytest.approx(logprobs[place + index - 1, token].item(), abs=1e-4)
            place += len(one.token_ids)
    assert forced > 3


def test_without_a_budget_or_reasoning_nothing_is_forced() -> None:
    assert all(one.forced == (0, 0) for talk in played(thinking(), None) for one in talk.generations)
    assert all(one.forced == (0, 0) for talk in played(language_model()) for one in talk.generations)


def test_the_end_of_an_action_may_cut_the_end_of_reasoning_off() -> None:
    lm = thinking()
    policy = LMPolicy(lm, max_new_tokens=MOST + 2, max_reasoning_tokens=MOST)
    talks = [Conversation(f"Which {n}?") for n in range(4)]
    act(policy, talks)
    assert {talk.generations[0].forced for talk in talks if len(talk.generations[0].token_ids) > MOST} == {(MOST, MOST + 2)}
    act(policy, [Conversation("Why?")])  # the rest of the end is not written into the next action


def test_a_budget_leaves_room_for_a_call() -> None:
    with pytest.raises(InvalidArgument, match="max_reasoning_tokens must leave room for a call within max_new_tokens=9, got 9"):
        LMPolicy(thinking(), max_new_tokens=9, max_reasoning_tokens=9)
    with pytest.raises(InvalidArgument, match="the grammar of calls allows no reasoning"):
        Config.of(constrained=True, max_reasoning_tokens=9)


def test_each_family_has_its_own_end() -> None:
    tokens = tokenizer()
    for opening, end in (("<think>\n", "\n</think>\n\n"), ("[THINK]", "\n[/THINK]\n\n"), ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant")):
        budget = ReasoningBudget(3, 20, Reading(tokens, make_format("hermes"), {1}, opening))
        assert budget([5, 6, 7]) == tokens.encode(end, add_special_tokens=False)
        assert budget([5, 6]) == []
        assert budget([5, 6, 7, 8]) == []


# ---------------------------------------------------------------- learning
def with_forced(made: Trajectory, begin: int, end: int) -> Trajectory:
    first, *rest = made.steps
    logprobs = tuple(0.0 if begin <= place < end else logprob for place, logprob in enumerate(first.generation.logprobs))
    return Trajectory((replace(first, generation=replace(first.generation, logprobs=logprobs, forced=(begin, end))), *rest))


PLAIN = trajectory([(range(10, 16), (31, 32, 33, 34, 35)), ((40, 41), (42, 43))], [0.5, 1.0], values=[0.1, 0.2])
FORCED = with_forced(PLAIN, 1, 3)
WORSE = trajectory([(range(10, 16), (36, 37)), ((40, 41), (42, 44))], [0.0, 0.5], values=[0.1, 0.2])


def test_a_batch_leaves_forced_tokens_to_the_context() -> None:
    batch = collate([FORCED])
    assert batch.ids.tolist() == collate([PLAIN]).ids.tolist()
    assert batch.targets.tolist() == [31, 34, 35, 42, 43]
    assert batch.token_at.tolist() == [5, 8, 9, 12, 13]
    assert batch.token_step.tolist() == [0, 0, 0, 1, 1]
    assert batch.action_at.tolist() == [10, 14]
    assert (action_tokens(FORCED), length(FORCED)) == (5, length(PLAIN))


@pytest.mark.parametrize("credit", ["step", "token", "grpo"])
def test_nothing_is_learned_from_forced_tokens(credit: str) -> None:
    """What the log-probabilities of forced tokens are said to be changes no weight, and the sampled ones have a gradient."""
    after = []
    for said in (0.0, -7.0):
        lm = language_model()
        first = FORCED.steps[0]
        logprobs = tuple(said if 1 <= place < 3 else logprob for place, logprob in enumerate(first.generation.logprobs))
        data = [Trajectory((replace(first, generation=replace(first.generation, logprobs=logprobs)), *FORCED.steps[1:])), WORSE]
        config = Config.of(epochs=1, minibatches=1, value_passes=0)
        before = {name: weight.detach().clone() for name, weight in lm.trainable().items()}
        optimizer = policy_optimizer(lm, config.learning.lr)
        measured = improve(passes(lm, config), optimizer, assign_credit(data, 1.0, 0.5, credit), config.learning, np.random.default_rng(0), None)
        assert np.isfinite(list(measured.values())).all()
        after.append(lm.trainable())
        assert any(not torch.equal(weight, before[name]) for name, weight in lm.trainable().items())
    assert all(torch.equal(after[0][name], after[1][name]) for name in after[0])


def test_files_keep_what_was_forced(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [FORCED, PLAIN])
    assert list(read_jsonl(tmp_path / "a.jsonl")) == [FORCED, PLAIN]
    with pytest.raises(InvalidArgument, match=r"forced must be a range within the 5 token ids, got \(1, 9\)"):
        with_forced(PLAIN, 1, 9)
