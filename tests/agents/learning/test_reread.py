"""What the learner says of episodes that another program sampled: values, log-probabilities, and the weights that correct the difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gradients import gradients, same
from hypothesis import given, settings
from hypothesis import strategies as st
from lms import language_model, passes, sampled, trajectory

from steptool_agents.learning.advantages import Credited, assign_credit
from steptool_agents.learning.reread import as_of_now, corrected
from steptool_agents.models.loading import load_model
from steptool_agents.policies.local import LMPolicy
from steptool_agents.rollouts.evaluate import evaluate
from steptool_agents.trajectory import Generation, Trajectory, read_jsonl, write_jsonl
from steptool_env import ToolCall, make_suite
from steptool_env.errors import InvalidArgument


def shifted(one: Trajectory, by: Sequence[float]) -> Trajectory:
    """Return an episode as a server would state it: no values, and log-probabilities that are off by these numbers, token by token."""
    remaining, steps = iter(by), []
    for step in one.steps:
        stated = tuple(logprob + next(remaining) for logprob in step.generation.logprobs)
        steps.append(replace(step, generation=replace(step.generation, value=0.0, logprobs=stated)))
    return replace(one, steps=tuple(steps))


def tokens(one: Trajectory) -> int:
    return sum(len(step.generation.token_ids) for step in one.steps)


def test_the_values_and_log_probabilities_are_those_that_the_policy_would_have_recorded() -> None:
    lm = load_model("tiny")
    torch.nn.init.normal_(lm.value_head.value.weight, generator=torch.Generator().manual_seed(0))
    _, played = evaluate(LMPolicy(lm, temperature=1.0, seed=3, max_new_tokens=12), make_suite("worlds", level=1), range(3), max_steps=3)
    reread, measured = corrected(passes(lm), [shifted(one, [0.0] * tokens(one)) for one in played], 2.0)
    for one, now in zip(played, reread, strict=True):
        for step, again in zip(one.steps, now.steps, strict=True):
            assert again.generation.token_ids == step.generation.token_ids
            assert again.generation.logprobs == pytest.approx(step.generation.logprobs, abs=1e-4)
            assert again.generation.value == pytest.approx(step.generation.value, abs=1e-4)
            assert again.generation.value != 0.0
            assert again.generation.importance == pytest.approx([1.0] * len(step.generation.token_ids), abs=1e-4)
    assert measured["importance"] == pytest.approx(1.0, abs=1e-5) and measured["importance_truncated"] == 0.0 and measured["sampling_kl"] < 1e-8


LM = language_model()
PLAYED = sampled(LM)
COUNT = sum(map(tokens, PLAYED))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-3.0, 3.0), min_size=COUNT, max_size=COUNT), st.floats(0.5, 4.0))
def test_the_weights_are_the_truncated_ratio_of_learner_and_server(by: list[float], cap: float) -> None:
    left = iter(by)
    stated = [shifted(one, [next(left) for _ in range(tokens(one))]) for one in PLAYED]
    reread, measured = corrected(passes(LM), stated, cap)
    weights = [weight for one in reread for step in one.steps for weight in step.generation.importance]
    ratios = [math.exp(-number) for number in by]  # of learner and server
    assert weights == pytest.approx([min(ratio, cap) for ratio in ratios], rel=1e-3)
    assert max(weights) <= cap * (1 + 1e-12)
    assert measured["importance"] == pytest.approx(np.mean(weights), rel=1e-6)
    assert measured["importance_truncated"] == pytest.approx(np.mean([ratio > cap for ratio in ratios]), abs=1.1 / COUNT)
    assert measured["sampling_kl"] == pytest.approx(np.mean([ratio - 1 - math.log(ratio) for ratio in ratios]), rel=1e-3, abs=1e-6)
    for one, other in zip(reread, PLAYED, strict=True):  # whatever was stated, the ratio of PPO starts from the learner
        assert [step.generation.logprobs for step in one.steps] == [pytest.approx(step.generation.logprobs, abs=1e-4) for step in other.steps]


def test_the_gradient_is_that_of_tokens_weighted_one_by_one() -> None:
    rng = np.random.default_rng(0)
    reread, _ = corrected(passes(LM), [shifted(one, rng.normal(size=tokens(one)).tolist()) for one in PLAYED], 1.5)
    data = assign_credit(reread, 1.0, 0.95)
    weights = [np.concatenate([step.generation.importance for step in one.steps]) for one in reread]
    plain = [replace(one, steps=tuple(replace(step, generation=replace(step.generation, importance=())) for step in one.steps)) for one in reread]
    by_hand = Credited(plain, [data.token_advantages(k) for k in range(len(plain))], data.returns, per_token=True)
    unweighted = assign_credit(plain, 1.0, 0.95)
    for k, weight in enumerate(weights):
        np.testing.assert_allclose(data.token_advantages(k), unweighted.token_advantages(k) * weight)
    found = gradients(LM, data)
    same(found, gradients(LM, by_hand))
    without = gradients(LM, unweighted)
    assert found[0]["policy_loss"] != pytest.approx(without[0]["policy_loss"], rel=1e-3)
    assert found[0]["approx_kl"] == pytest.approx(0.0, abs=1e-6), "the ratio starts from the learner, whoever sampled"


def test_observations_and_masked_steps_carry_no_weight() -> None:
    rng = np.random.default_rng(1)
    long = [[((*range(10, 30), *range(5, 25)), (31, 32)), (range(40, 60), (46,))]]
    short = [[((*range(10, 30), *range(5, 25)), (31, 32)), (range(40, 60), (46,))], [(range(3, 9), (8, 9)), ((7,), (6, 5))]]
    by = rng.normal(size=3).tolist()
    one, alone = corrected(passes(LM), [shifted(sampled(LM, long)[0], by)], 2.0)
    # A masked end beside it: it has weights, and no part in the measurements.
    masked = sampled(LM, short[1:], masked_end=True)[0]
    two, both = corrected(passes(LM), [shifted(sampled(LM, long)[0], by), shifted(masked, [0.0, 0.0, 9.0, 9.0])], 2.0)
    assert two[0] == one[0] or two[0].steps[0].generation.importance == pytest.approx(one[0].steps[0].generation.importance, rel=1e-4)
    assert both["importance"] == pytest.approx((3 * alone["importance"] + 2.0) / 5, rel=1e-4), "two tokens of the other's first step count, two do not"
    assert two[1].steps[1].generation.value != 0.0, "from which the cut-off return is continued"
    empty = trajectory([((), ())])
    assert corrected(passes(LM), [empty], 2.0) == ([empty], {}), "an episode whose first observation does not fit has no tokens"


def test_weights_are_kept_in_files_and_checked(tmp_path: Path) -> None:
    reread, _ = corrected(passes(LM), PLAYED, 2.0)
    write_jsonl(tmp_path / "t.jsonl", reread)
    again = read_jsonl(tmp_path / "t.jsonl")
    assert [step.generation for one in again for step in one.steps] == [step.generation for one in reread for step in one.steps]
    assert as_of_now(passes(LM), again)[0].steps[0].generation.importance == (), "as if it had sampled them itself"
    for wrong in ((1.0,), (1.0, math.nan)):
        with pytest.raises(InvalidArgument):
            Generation("", ToolCall("look"), (), (1, 2), (-1.0, -1.0), importance=wrong)
