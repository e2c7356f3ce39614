"""Supervised fine-tuning, and the demonstrations that it takes."""

from __future__ import annotations

import math

import pytest
import torch
from lms import language_model, passes, tokenizer, trajectory
from toy import Counting

from steptool_agents.config import Config
from steptool_agents.learning.imitation import fit, imitate
from steptool_agents.models.language_model import LanguageModel
from steptool_agents.policies.demonstrator import DemonstrationPolicy
from steptool_agents.policies.local import LMPolicy
from steptool_agents.rollouts.collect import rollout
from steptool_agents.trajectory import Trajectory
from steptool_env.env import StepToolEnv
from steptool_env.tasks.worlds import Worlds


def demonstrations(policy: LMPolicy, count: int = 8) -> list[Trajectory]:
    suite = Worlds(level=1)
    return rollout(DemonstrationPolicy(policy), [StepToolEnv(suite) for _ in range(3)], list(range(count)))


@pytest.mark.parametrize("call_format", ["hermes", "react"])
def test_demonstrations_are_written_as_the_model_would_have_to(call_format: str) -> None:
    lm = language_model()
    policy = LMPolicy(lm, call_format)
    for one in demonstrations(policy):
        assert one.success == 1.0
        for step in one.steps:
            ids = list(step.generation.token_ids)
            ended = ids[-1] == lm.tokenizer.eos_token_id
            assert ended is (call_format == "react")  # hermes calls end with a tag, at which sampling stops anyway
            text = lm.tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=False)
            assert text == step.generation.text
            assert policy.call_format.parse(text) == step.transition.action


@pytest.mark.parametrize("call_format", ["hermes", "react"])
def test_a_model_that_repeats_a_demonstration_sees_the_same_context(call_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The warm start trains on just the sequence that sampling will make."""
    lm = language_model()
    policy = LMPolicy(lm, call_format)
    (expected,) = demonstrations(policy, 1)
    said = iter([token for step in expected.steps for token in step.generation.token_ids])
    monkeypatch.setattr(policy._engine, "_sample", lambda logits: ([next(said)], [0.0]))
    (got,) = rollout(policy, [StepToolEnv(Worlds(level=1))], [0])
    assert [step.generation.prompt_ids for step in got.steps] == [step.generation.prompt_ids for step in expected.steps]
    assert [step.generation.token_ids for step in got.steps] == [step.generation.token_ids for step in expected.steps]
    assert got.success == 1.0


def test_demonstrations_of_several_turns() -> None:
    policy = LMPolicy(language_model())
    (one,) = rollout(DemonstrationPolicy(policy), [StepToolEnv(Counting(turns=2))], [0])
    assert one.success == 1.0
    assert "And now to 4." in tokenizer().decode([token for step in one.steps for token in step.generation.prompt_ids])


def loss_of(lm: LanguageModel, data: list[Trajectory], budget: int) -> float:
    """Return the loss of a step that changes no weight; the gradients stay."""
    config = Config.of(token_budget=budget, max_grad_norm=1e9)
    return imitate(passes(lm, config), torch.optim.SGD(lm.trainable().values(), lr=0.0), data)


def test_the_loss_falls() -> None:
    lm = language_model("llama")
    data = demonstrations(LMPolicy(lm))
    losses: list[tuple[int, int, float]] = []
    last = fit(passes(lm), data, epochs=6, lr=1e-2, batch=4, on_step=lambda done, total, loss: losses.append((done, total, loss)))
    assert [(done, total) for done, total, _ in losses] == [(k, 12) for k in range(1, 13)]
    assert losses[0][2] > 1.5 * last
    assert last == pytest.approx((losses[-1][2] + losses[-2][2]) / 2)
    assert not lm.training


def test_observations_are_read_but_not_learnt() -> None:
    """Two of four actions' tokens cost log V each under a model that says nothing; observations add nothing to the mean."""
    lm = language_model()
    torch.nn.init.zeros_(lm.model.lm_head.weight)
    short = trajectory([((5,), (6, 7)), ((8,), (9, 10))])
    long = trajectory([((5,), (6, 7)), (range(8, 100), (9, 10))])
    vocabulary = lm.model.lm_head.weight.shape[0]
    assert loss_of(lm, [short], 1000) == pytest.approx(math.log(vocabulary))
    assert loss_of(lm, [long], 1000) == pytest.approx(math.log(vocabulary))
    # Only the tokens of actions push the projection: the rows of all others get the same small negative push, -p/4 per position.
    gradient = lm.model.lm_head.weight.grad
    assert gradient is not None
    pushed = set(gradient.abs().sum(1).topk(4).indices.tolist())
    assert pushed == {6, 7, 9, 10}


@pytest.mark.parametrize("budget", [1, 100, 400])
def test_micro_batches_change_nothing(budget: int) -> None:
    lm = language_model()
    data = demonstrations(LMPolicy(lm), 5)
    expected = loss_of(lm, data, 10**6)
    gradients = {name: parameter.grad.clone() for name, parameter in lm.trainable().items() if parameter.grad is not None}
    assert loss_of(lm, data, budget) == pytest.approx(expected, rel=1e-5)
    for name, parameter in lm.trainable().items():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-5, rtol=1e-4)


def test_the_same_seed_gives_the_same_weights() -> None:
    weights = []
    for seed in (1, 1, 2):
        lm = language_model()
        fit(passes(lm), demonstrations(LMPolicy(lm)), epochs=1, lr=1e-2, batch=2, seed=seed)
        weights.append(lm.model.lm_head.weight.detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_nothing_to_fit() -> None:
    lm = language_model()
    assert math.isnan(fit(passes(lm), [], epochs=1, lr=1e-2))
    assert math.isnan(fit(passes(lm), demonstrations(LMPolicy(lm), 1), epochs=0, lr=1e-2))
