"""The critic: what it reads, that fitting it fits it, and that the policy stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lms import language_model, passes, sampled, trajectory

from steptool_agents.learning.advantages import assign_credit
from steptool_agents.learning.critic import explained_by_values, explained_variance, fit_values, warm_up_critic
from steptool_agents.learning.optimizer import policy_optimizer
from steptool_agents.models.value_head import ValueHead, mean_by


def test_a_new_head_says_nothing() -> None:
    head = ValueHead(8)
    assert head(torch.randn(5, 8), torch.randn(5, 8)).tolist() == [0.0] * 5


def test_mean_by_owner_by_hand() -> None:
    states = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    found = mean_by(states, torch.tensor([2, 2, 0]), 4)
    torch.testing.assert_close(found, torch.tensor([[5.0, 6.0], [0.0, 0.0], [2.0, 3.0], [0.0, 0.0]]))


def test_explained_variance_by_hand() -> None:
    returns = np.array([0.0, 2.0])  # variance 1
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance(np.zeros(2), returns) == 0.0
    assert explained_variance(np.array([0.0, 1.0]), returns) == pytest.approx(0.75)  # what is left, 0 and 1, has variance ¼
    assert explained_variance(np.array([2.0, 0.0]), returns) == pytest.approx(-3.0)
    assert explained_variance(np.ones(2), np.ones(2)) == 0.0


def test_values_are_held_against_what_came_not_against_targets_made_of_them() -> None:
    # Returns-to-go 3, 2 and 0, 0; values 3, 2 and 0, 1. Left over: 0, 0, 0, -1, variance 3/16; of the returns 27/16. 1 - 3/27.
    made = [trajectory([((1,), (2,))] * 2, [1.0, 2.0], values=[3.0, 2.0]), trajectory([((1,), (2,))] * 2, [0.0, 0.0], values=[0.0, 1.0])]
    cut = trajectory([((1,), (2,))] * 2, [9.0, 9.0], values=[-9.0, 9.0], masked_end=True)
    assert explained_by_values([*made, cut], 1.0) == pytest.approx(8 / 9)
    # γ = ½: returns 2, 2 and 0, 0; left over -1, 0, 0, -1, variance ¼; of the returns 1
    assert explained_by_values(made, 0.5) == pytest.approx(0.75)
    assert explained_by_values([cut], 1.0) == 0.0


@pytest.mark.parametrize("what", ["state", "task"])
def test_it_learns_from_both(what: str) -> None:
    torch.manual_seed(0)
    states, tasks = torch.randn(400, 8), torch.randn(400, 8)
    returns = (states if what == "state" else tasks)[:, 0]
    head = ValueHead(8)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    loss = fit_values(head, optimizer, (states, tasks), returns, torch.ones(400), passes=60, rng=np.random.default_rng(0))
    assert loss < 0.05  # that of the mean is ½
    assert all(parameter.grad is None for parameter in head.parameters())


@pytest.mark.parametrize("width", [128, 576, 2048])
def test_it_learns_from_states_that_are_nearly_the_same_everywhere(width: int) -> None:
    """Those of pretrained models are: a head that reads them as those of a small model saturates at once, and is a constant for good."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    common, outlier, signal, steps = draw(width), torch.zeros(width), draw(width), 192
    outlier[3] = 40.0  # as large as in SmolLM2-135M
    what = draw(steps).sign()
    states = common + outlier + 0.1 * draw(steps, width) + 0.25 * what[:, None] * signal
    tasks = common + outlier + 0.05 * draw(steps, width)
    returns = 0.5 + 0.5 * what
    torch.manual_seed(0)
    head = ValueHead(width)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=0.0)
    for update in range(6):
        fit_values(head, optimizer, (states, tasks), returns, torch.ones(steps), passes=20, rng=np.random.default_rng(update))
    with torch.no_grad():
        assert explained_variance(head(states, tasks).numpy(), returns.numpy()) > 0.5


def test_a_weight_of_zero_leaves_a_step_out() -> None:
    torch.manual_seed(0)
    states, tasks = torch.randn(200, 8), torch.randn(200, 8)
    weights = torch.cat([torch.ones(100), torch.zeros(100)])
    returns = torch.cat([torch.full((100,), 1.0), torch.full((100,), 1000.0)])
    head = ValueHead(8)
    fit_values(head, torch.optim.AdamW(head.parameters(), lr=1e-2), (states, tasks), returns, weights, passes=60, rng=np.random.default_rng(0))
    assert head(states, tasks).mean().item() == pytest.approx(1.0, abs=0.2)


def test_warming_up_leaves_the_policy_alone() -> None:
    lm = language_model()
    before = {name: weight.clone() for name, weight in lm.state_dict().items()}
    data = assign_credit(sampled(lm), 1.0, 1.0)
    warm_up_critic(passes(lm), policy_optimizer(lm, 1e-3), data, count=3, rng=np.random.default_rng(0))
    changed = {name for name, weight in lm.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed and all(name.startswith("value_head.") for name in changed)
