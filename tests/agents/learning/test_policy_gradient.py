"""Step-grained policy optimization: credit per step, one loss however it is cut up, and that it learns."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gradients import CONFIG, gradients, same
from lms import TALKS, Conversation, act, from_scratch, language_model, passes, sampled, trajectory

from steptool_agents.config import Config
from steptool_agents.learning.advantages import Credited, assign_credit
from steptool_agents.learning.policy_gradient import improve, reference_logprobs, take_step
from steptool_agents.policies.local import LMPolicy


# ---------------------------------------------------------------- credit
def test_credit_by_hand() -> None:
    # γ = λ = 1: A_t = r_t + … + r_{T-1} - V_t; returns are A_t + V_t, the rewards to come.
    first = trajectory([((1,), (2,))] * 2, [1.0, 2.0], values=[0.5, 1.0])  # A = 3 - 0.5, 2 - 1 = 2.5, 1
    second = trajectory([((1,), (2,))], [-1.0], values=[0.5])  # A = -1.5
    data = assign_credit([first, second], 1.0, 1.0)
    assert [returns.tolist() for returns in data.returns] == [[3.0, 2.0], [-1.0]]
    # Mean of 2.5, 1, -1.5 is 2/3; their variance ((11/6)² + (1/3)² + (13/6)²) / 3 = (121 + 4 + 169) / 108 = 2.7222.
    expected = (np.array([2.5, 1.0, -1.5]) - 2 / 3) / np.sqrt(294 / 108)
    np.testing.assert_allclose(np.concatenate(data.advantages), expected)


def test_only_a_fault_stands_for_a_future() -> None:
    steps = [((1,), (2,))] * 2
    cut = assign_credit([trajectory(steps, [1.0, 0.0], values=[0.5, 4.0], masked_end=True)], 1.0, 1.0)
    assert cut.returns[0].tolist() == [5.0, 4.0]  # 1 + V of where it was cut off
    ended = assign_credit([trajectory(steps, [1.0, 0.0], values=[0.5, 4.0])], 1.0, 1.0)
    assert ended.returns[0].tolist() == [1.0, 0.0]


def test_a_step_that_is_masked_has_no_advantage() -> None:
    data = assign_credit([trajectory([((1,), (2,))] * 2, [1.0, 0.0], masked_end=True), trajectory([((1,), (2,))], [3.0])], 1.0, 1.0)
    assert data.advantages[0].tolist() == [-1.0, 0.0]  # 1 and 3: mean 2, standard deviation 1
    assert data.advantages[1].tolist() == [1.0]


@pytest.mark.parametrize("observation", [(), (7,), tuple(range(200))])
def test_the_length_of_observations_changes_no_advantage(observation: tuple[int, ...]) -> None:
    short = [trajectory([((1,), (2, 3)), ((4,), (5,))], [1.0, 0.5], values=[0.1, 0.2]), trajectory([((1,), (2,))], [0.0])]
    long = [trajectory([((1,), (2, 3)), ((4, *observation), (5,))], [1.0, 0.5], values=[0.1, 0.2]), trajectory([((1,), (2,))], [0.0])]
    for a, b in zip(assign_credit(short, 0.9, 0.8).advantages, assign_credit(long, 0.9, 0.8).advantages, strict=True):
        np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------- the loss
@pytest.mark.parametrize("budget", [1, 20, 60, 75])
def test_micro_batches_change_nothing(budget: int) -> None:
    lm = language_model()
    data = assign_credit(sampled(lm), 1.0, 0.95)
    same(gradients(lm, data), gradients(lm, data, CONFIG.replace(token_budget=budget)))


def test_the_order_changes_nothing() -> None:
    lm = language_model()
    data = assign_credit(sampled(lm), 1.0, 0.95)
    same(gradients(lm, data), gradients(lm, data, chosen=[2, 0, 1]))


def test_the_loss_by_hand() -> None:
    """At the policy that sampled, the ratio is 1: the loss is the mean of -A over tokens."""
    lm = language_model()
    data = assign_credit(sampled(lm), 1.0, 0.95)
    measured, _ = gradients(lm, data, CONFIG.replace(kl=0.0))
    counts = [len(step.generation.token_ids) for one in data.trajectories for step in one.steps]
    advantages = np.concatenate(data.advantages)
    assert measured["policy_loss"] == pytest.approx(-np.dot(counts, advantages) / sum(counts), abs=1e-5)
    assert measured["clip_fraction"] == 0.0
    assert measured["approx_kl"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("budget", [1, 10_000])
def test_nothing_is_learnt_from_a_fault(budget: int) -> None:
    """What was said in a step whose tool was down has no share in a gradient, nor in its scale."""
    lm = language_model()
    config = CONFIG.replace(token_budget=budget)
    steps = TALKS[0]
    (cut,) = sampled(lm, [steps], masked_end=True)
    other = sampled(lm, TALKS[1:2])[0]
    data = assign_credit([cut, other], 1.0, 1.0)
    short = replace(cut, steps=cut.steps[:1])
    alone = Credited([short, other], [data.advantages[0][:1], data.advantages[1]], [data.returns[0][:1], data.returns[1]])
    same(gradients(lm, data, config), gradients(lm, alone, config))


def test_the_kl_term() -> None:
    lm = language_model()
    data = assign_credit(sampled(lm), 1.0, 0.95)
    here = {name: parameter.detach().clone() for name, parameter in lm.trainable().items()}
    still = torch.optim.SGD(lm.trainable().values(), lr=0.0)

    def divergence(factor: float) -> float:
        reference = {name: weight * factor for name, weight in here.items()}
        anchors = reference_logprobs(passes(lm, CONFIG), data.trajectories, reference)
        return take_step(passes(lm, CONFIG), still, data, [0, 1, 2], CONFIG.learning, anchors)["kl"]

    assert divergence(1.0) == pytest.approx(0.0, abs=1e-9)
    assert divergence(0.8) > 1e-3
    for name, parameter in lm.trainable().items():
        assert torch.equal(parameter, here[name])


def test_reference_logprobs_do_not_depend_on_how_they_are_cut_up() -> None:
    lm = language_model()
    made = sampled(lm)
    here = {name: parameter.detach().clone() for name, parameter in lm.trainable().items()}
    for budget in (1, 60, 10_000):
        found = reference_logprobs(passes(lm, CONFIG.replace(token_budget=budget)), made, here)
        for one, expected in zip(found, made, strict=True):
            np.testing.assert_allclose(one, [logprob for step in expected.steps for logprob in step.generation.logprobs], atol=1e-5)


def test_the_temperature_of_sampling_is_that_of_training() -> None:
    lm = language_model()
    talk = Conversation("Look.")
    act(LMPolicy(lm, temperature=0.6, max_new_tokens=8), [talk])
    one = talk.generations[0]
    data = assign_credit([trajectory([(one.prompt_ids, one.token_ids)], [1.0], logprobs=[one.logprobs])], 1.0, 1.0)
    assert gradients(lm, data, CONFIG.replace(temperature=0.6))[0]["approx_kl"] == pytest.approx(0.0, abs=1e-6)
    assert gradients(lm, data, CONFIG)[0]["approx_kl"] > 1e-3


def test_dropout_does_not_part_the_policy_from_itself() -> None:
    lm = language_model("gpt2", resid_pdrop=0.5, embd_pdrop=0.5)
    data = assign_credit(sampled(lm), 1.0, 0.95)
    measured = improve(passes(lm), torch.optim.SGD(lm.trainable().values(), lr=0.0), data, CONFIG.replace(kl=0.0).learning, np.random.default_rng(0), {})
    assert measured["approx_kl"] == pytest.approx(0.0, abs=1e-6)


# ---------------------------------------------------------------- updates
def test_each_pass_uses_every_trajectory_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = language_model()
    seen: list[list[int]] = []

    def spy(passes: Any, optimizer: Any, data: Any, chosen: list[int], *rest: Any) -> dict[str, float]:
        seen.append(chosen)
        return {"x": 1.0}

    monkeypatch.setattr("steptool_agents.learning.policy_gradient.take_step", spy)
    data = assign_credit([trajectory([((1,), (2,))], [float(k)]) for k in range(5)], 1.0, 1.0)
    optimizer = torch.optim.SGD(lm.trainable().values(), lr=0.0)
    assert improve(passes(lm), optimizer, data, CONFIG.replace(epochs=3, minibatches=2, kl=0.0).learning, np.random.default_rng(0), {}) == {"x": 1.0}
    assert [len(chosen) for chosen in seen] == [3, 2] * 3
    for a, b in zip(seen[::2], seen[1::2], strict=True):
        assert sorted(a + b) == [0, 1, 2, 3, 4]


def test_an_update_in_which_every_tool_was_down() -> None:
    lm = language_model()
    before = copy.deepcopy(lm.state_dict())
    data = assign_credit([trajectory([((1,), (2,))], masked_end=True)] * 3, 1.0, 1.0)
    assert improve(passes(lm), torch.optim.AdamW(lm.trainable().values(), lr=0.1), data, CONFIG.learning, np.random.default_rng(0), {}) == {}
    assert all(torch.equal(weight, before[name]) for name, weight in lm.state_dict().items())


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_what_is_rewarded_becomes_more_likely(seed: int) -> None:
    lm = language_model()
    torch.nn.init.zeros_(lm.value_head.value.weight)  # as a run starts: a random critic would be a bad baseline
    policy = LMPolicy(lm, max_new_tokens=1, seed=seed)
    talks = [Conversation("Which?") for _ in range(64)]
    act(policy, talks)
    said = [talk.generations[0] for talk in talks]
    tokens = [one.token_ids[0] for one in said]
    best = max(sorted(set(tokens)), key=tokens.count)
    prompt = said[0].prompt_ids
    made = [trajectory([(prompt, one.token_ids)], [float(one.token_ids[0] == best)], logprobs=[one.logprobs], values=[one.value]) for one in said]
    before = from_scratch(lm, prompt)[0][-1, best].item()
    optimizer = torch.optim.AdamW(lm.trainable().values(), lr=3e-3, weight_decay=0.0)
    improve(passes(lm), optimizer, assign_credit(made, 1.0, 0.95), Config.of(kl=0.0, epochs=2, minibatches=2).learning, np.random.default_rng(0), {})
    assert from_scratch(lm, prompt)[0][-1, best].item() > before + 0.1
