"""Losses: numbers worked out by hand, gradients, and that observations and padding have no share in them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steptool_agents.credit import step_gae
from steptool_agents.learning.losses import action_logprobs, kl_k2, kl_k3, masked_mean, ppo_clip, value_loss
from steptool_env.errors import InvalidArgument

LN2, LN3 = math.log(2), math.log(3)


# ---------------------------------------------------------------- probabilities
def token_logprobs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probabilities left to autograd, which the package's own backward pass is compared with."""
    return torch.log_softmax(logits.float(), dim=-1).gather(-1, targets[:, None]).squeeze(-1)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropies left to autograd; a ruled-out token has p = 0 and z = -inf, and their product must be 0."""
    z = logits.float()
    return torch.logsumexp(z, dim=-1) - (torch.softmax(z, dim=-1) * z.masked_fill(z == -torch.inf, 0.0)).sum(-1)


def test_logprobs_and_entropy_by_hand() -> None:
    # softmax(0, ln 3) = ¼, ¾, entropy ¼·ln 4 + ¾·ln(4/3);  of two equal logits, the third ruled out: ½, entropy ln 2
    logits = torch.tensor([[0.0, LN3, -math.inf], [0.0, 0.0, -math.inf]])
    logprobs, spread = action_logprobs(logits, lambda x: x, torch.tensor([1, 0]), entropy=True)
    torch.testing.assert_close(logprobs, torch.tensor([math.log(3 / 4), -LN2]))
    torch.testing.assert_close(spread, torch.tensor([math.log(4) / 4 + 0.75 * math.log(4 / 3), LN2]))


def test_logprobs_are_float32_and_stable() -> None:
    logits = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]], dtype=torch.bfloat16)
    logprobs, _ = action_logprobs(logits, lambda x: x, torch.tensor([0, 0]))
    assert logprobs.dtype == torch.float32
    assert logprobs.tolist() == [0.0, -1000.0]


@pytest.mark.parametrize("chunk", [1, 3, None])
def test_ruled_out_tokens_spoil_neither_values_nor_gradients(chunk: int | None) -> None:
    logits = torch.tensor([[0.0, LN3, -math.inf], [0.0, 0.0, -math.inf], [0.0, 0.0, 0.0]])
    targets, weights = torch.tensor([1, 0, 2]), torch.tensor([1.0, 2.0, -300.0])
    found = []
    for fused in (True, False):
        z = logits.clone().requires_grad_()
        if fused:
            logprobs, spread = action_logprobs(z, lambda x: x, targets, chunk=chunk, entropy=True)
        else:
            logprobs, spread = token_logprobs(z, targets), entropy(z)
        (weights * logprobs + 5.0 * weights.flip(0) * spread).sum().backward()
        assert z.grad is not None
        found.append((logprobs.detach(), spread.detach(), z.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("chunk", [1, 2, 5, 7, 100, None])
def test_chunks_change_neither_values_nor_gradients(chunk: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(7, 3, generator=generator), torch.randn(3, 11, generator=generator)
    targets = torch.randint(11, (7,), generator=generator)

    def gradients(whole: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        if whole:
            logprobs, spread = token_logprobs(h @ w, targets), entropy(h @ w)
        else:
            logprobs, spread = action_logprobs(h, lambda x: x @ w, targets, chunk=chunk, entropy=True)
        (logprobs * torch.arange(7) + spread).sum().backward()
        assert h.grad is not None and w.grad is not None
        return logprobs.detach(), spread.detach(), h.grad, w.grad

    for got, expected in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(got, expected)


def test_the_vocabulary_is_projected_chunk_by_chunk() -> None:
    sizes = []

    def head(hidden: Tensor) -> Tensor:
        sizes.append(len(hidden))
        return hidden

    with torch.no_grad():
        logprobs, nothing = action_logprobs(torch.zeros(5, 2), head, torch.zeros(5, dtype=torch.int64), chunk=2)
    assert sizes == [2, 2, 1]
    assert nothing is None
    torch.testing.assert_close(logprobs, torch.full((5,), -LN2))


def test_training_makes_the_logits_again_instead_of_keeping_them() -> None:
    sizes = []

    def head(hidden: Tensor) -> Tensor:
        sizes.append(len(hidden))
        return hidden

    logprobs, _ = action_logprobs(torch.zeros(5, 2, requires_grad=True), head, torch.zeros(5, dtype=torch.int64), chunk=2)
    assert sizes == [2, 2, 1]
    logprobs.sum().backward()
    assert sorted(sizes) == [1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("chunk", [1, 2, 7, None])
@pytest.mark.parametrize("measured", [True, False])
def test_with_a_frozen_head_logits_are_made_once_and_gradients_are_the_same(chunk: int | None, measured: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(7, 3, generator=generator), torch.randn(3, 11, generator=generator)
    targets = torch.randint(11, (7,), generator=generator)
    made = []

    def head(h: Tensor) -> Tensor:
        made.append(len(h))
        return h @ weight

    h, expected = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    logprobs, spread = action_logprobs(h, head, targets, chunk=chunk, entropy=measured, frozen=True)  # type: ignore[call-overload]
    (logprobs * torch.arange(7)).sum().backward()
    assert sum(made) == 7 + (chunk is None)  # one more, to see how many fit into a chunk
    by_autograd = token_logprobs(expected @ weight, targets)
    (by_autograd * torch.arange(7)).sum().backward()
    torch.testing.assert_close(logprobs, by_autograd)
    torch.testing.assert_close(h.grad, expected.grad)
    if measured:
        torch.testing.assert_close(spread, entropy(hidden @ weight))
        assert not spread.requires_grad


def test_entropies_alone_can_be_learned_from() -> None:
    z, same = torch.tensor([[0.0, LN3]]).requires_grad_(), torch.tensor([[0.0, LN3]]).requires_grad_()
    action_logprobs(z, lambda x: x, torch.tensor([1]), entropy=True)[1].sum().backward()
    entropy(same).sum().backward()
    torch.testing.assert_close(z.grad, same.grad)


@pytest.mark.parametrize("frozen", [True, False])
def test_no_action_tokens_are_no_special_case(frozen: bool) -> None:
    hidden = torch.zeros(0, 3, requires_grad=True)
    logprobs, spread = action_logprobs(hidden, torch.nn.Linear(3, 5), torch.zeros(0, dtype=torch.int64), entropy=True, frozen=frozen)
    assert logprobs.shape == spread.shape == (0,)
    masked_mean(logprobs, torch.ones(0)).backward()


# ---------------------------------------------------------------- ppo_clip
def test_ppo_clip_by_hand() -> None:
    # ε = .2, π_old = ½ throughout.       ρ      A    min(ρA, clamp(ρ)A)      loss
    # inside the range                   1.1     2    min(2.2, 2.2)           -2.2
    # gained too much                    1.5     2    min(3.0, 2.4)           -2.4
    # was good, has lost: no clip         .5     2    min(1.0, 1.6)           -1.0
    # is bad, has lost enough             .5    -2    min(-1.0, -1.6)          1.6
    # is bad, has gained: no clip        1.5    -2    min(-3.0, -2.4)          3.0
    ratio, advantages = torch.tensor([1.1, 1.5, 0.5, 0.5, 1.5]), torch.tensor([2.0, 2.0, 2.0, -2.0, -2.0])
    old = torch.full((5,), 0.5).log()
    logprobs = (old + ratio.log()).requires_grad_()
    loss, diagnostics = ppo_clip(logprobs, old, advantages, 0.2)
    torch.testing.assert_close(loss, torch.tensor([-2.2, -2.4, -1.0, 1.6, 3.0]))
    # ρ left [.8, 1.2] four times out of five.  KL: the mean of ρ - 1 - ln ρ:
    # .1 - .0953102 = .0046898;  .5 - .4054651 = .0945349 (twice);  -.5 + .6931472 = .1931472 (twice);  sum .5800540
    assert float(diagnostics["clip_fraction"]) == pytest.approx(0.8)
    assert float(diagnostics["approx_kl"]) == pytest.approx(0.5800540 / 5, abs=1e-6)
    assert not any(value.requires_grad for value in diagnostics.values())
    # d(-ρA)/d log π = -ρA where the clip does not bind, else 0
    loss.sum().backward()
    torch.testing.assert_close(logprobs.grad, torch.tensor([-2.2, 0.0, -1.0, 0.0, 3.0]))


def test_at_ratio_1_the_gradient_is_the_policy_gradient() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 5, generator=generator).requires_grad_()
    targets, advantages = torch.randint(5, (6,), generator=generator), torch.randn(6, generator=generator)
    logprobs = token_logprobs(logits, targets)
    loss, diagnostics = ppo_clip(logprobs, logprobs.detach(), advantages, 0.2)
    (got,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)
    (expected,) = torch.autograd.grad(-(advantages * logprobs).sum(), logits)
    torch.testing.assert_close(got, expected)
    assert float(diagnostics["clip_fraction"]) == float(diagnostics["approx_kl"]) == 0.0


def test_ppo_clip_with_one_ratio_per_step() -> None:
    # Step 0 has the ratios 2 and 1/2: their geometric mean is 1. Step 1 has 1.5 and 1.5: 1.5, clipped to 1.2 for A > 0.
    ratio, advantages = torch.tensor([2.0, 0.5, 1.5, 1.5]), torch.tensor([1.0, 1.0, 2.0, 2.0])
    logprobs = ratio.log().requires_grad_()
    loss, diagnostics = ppo_clip(logprobs, torch.zeros(4), advantages, 0.2, steps=torch.tensor([0, 0, 1, 1]))
    torch.testing.assert_close(loss, torch.tensor([-1.0, -1.0, -2.4, -2.4]))
    assert float(diagnostics["clip_fraction"]) == pytest.approx(0.5)
    loss.sum().backward()
    # ∂/∂log π_i of two tokens' -A·ρ with ρ = exp(mean): -A·ρ, each; nothing where the step is clipped
    torch.testing.assert_close(logprobs.grad, torch.tensor([-1.0, -1.0, 0.0, 0.0]))


def test_at_the_sampling_policy_the_ratio_per_step_gives_the_policy_gradient() -> None:
    old, advantages = torch.randn(5, generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, 1.0, -2.0, -2.0, -2.0])
    grads = []
    for steps in (None, torch.tensor([0, 0, 2, 2, 2])):
        logprobs = old.clone().requires_grad_()
        ppo_clip(logprobs, old, advantages, 0.2, steps=steps)[0].sum().backward()
        grads.append(logprobs.grad)
    torch.testing.assert_close(*grads)


def test_ppo_clip_trains_nothing_but_the_policy() -> None:
    new, old, advantages = (torch.zeros(3, requires_grad=True) for _ in range(3))
    ppo_clip(new, old, advantages + 1.0, 0.2)[0].sum().backward()
    assert new.grad is not None
    assert old.grad is None and advantages.grad is None


def test_an_absurd_ratio_stays_finite() -> None:
    logprobs = torch.tensor([0.0, 0.0, -500.0], requires_grad=True)
    loss, diagnostics = ppo_clip(logprobs, torch.tensor([-500.0, -500.0, 0.0]), torch.tensor([0.0, -1.0, 1.0]), 0.2)
    loss.sum().backward()
    assert logprobs.grad is not None
    assert loss.isfinite().all() and logprobs.grad.isfinite().all() and all(value.isfinite() for value in diagnostics.values())


def test_diagnostics_can_leave_tokens_out() -> None:
    _, diagnostics = ppo_clip(torch.tensor([0.0, 1.0]), torch.zeros(2), torch.ones(2), 0.2, weight=torch.tensor([1.0, 0.0]))
    assert float(diagnostics["clip_fraction"]) == 0.0


# ---------------------------------------------------------------- value_loss, kl_k3, masked_mean
def test_value_loss_by_hand() -> None:
    # ½·(1 - 3)² = 2;  ½·(0 - ½)² = .125
    values, returns = torch.tensor([1.0, 0.0], requires_grad=True), torch.tensor([3.0, 0.5])
    loss = value_loss(values, returns)
    torch.testing.assert_close(loss, torch.tensor([2.0, 0.125]))
    loss.sum().backward()
    torch.testing.assert_close(values.grad, torch.tensor([-2.0, -0.5]))  # V - R


def test_kl_k2_by_hand() -> None:
    # π = ½: π_ref = ½ gives 0;  π_ref = 1 gives ½·(ln 2)²;  π_ref = ¼ gives the same, with a gradient of the other sign
    logprobs = torch.tensor([0.5, 0.5, 0.5]).log().requires_grad_()
    got = kl_k2(logprobs, torch.tensor([0.5, 1.0, 0.25]).log())
    torch.testing.assert_close(got, torch.tensor([0.0, LN2**2 / 2, LN2**2 / 2]))
    got.sum().backward()
    torch.testing.assert_close(logprobs.grad, torch.tensor([0.0, -LN2, LN2]))


def test_the_gradient_of_kl_k2_is_that_of_the_divergence() -> None:
    ref = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log()
    logits = torch.tensor([1.0, -0.5, 0.2], dtype=torch.float64, requires_grad=True)
    exact = (logits.softmax(0) * (logits.log_softmax(0) - ref)).sum()
    (expected,) = torch.autograd.grad(exact, logits)
    sampled = (logits.softmax(0).detach() * kl_k2(logits.log_softmax(0), ref)).sum()  # the mean over all that could be sampled
    torch.testing.assert_close(torch.autograd.grad(sampled, logits)[0], expected)


def test_kl_k3_by_hand() -> None:
    # π = ½: π_ref = ½ gives 0;  π_ref = 1 gives 2 - 1 - ln 2;  π_ref = ¼ gives ½ - 1 + ln 2
    got = kl_k3(torch.tensor([0.5, 0.5, 0.5]).log(), torch.tensor([0.5, 1.0, 0.25]).log())
    torch.testing.assert_close(got, torch.tensor([0.0, 1 - LN2, LN2 - 0.5]))


def test_kl_k3_is_unbiased() -> None:
    # Weighted by π itself, the estimate is the divergence: Σ π(v)·k3(v) = Σ π(v)·ln(π(v)/π_ref(v)).
    pi, ref = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    torch.testing.assert_close((pi * kl_k3(pi.log(), ref.log())).sum(), (pi * (pi / ref).log()).sum())


@given(st.lists(st.tuples(st.floats(-300, 0, width=32), st.floats(-300, 0, width=32)), min_size=1, max_size=10))
def test_kl_k3_is_finite_and_never_negative(pairs: list[tuple[float, float]]) -> None:
    a, b = torch.tensor(pairs).unbind(1)
    got = kl_k3(a, b)
    assert (got >= 0).all() and got.isfinite().all()


def test_masked_mean_by_hand() -> None:
    # (1·2 + 3·1)/(2 + 1) = 5/3; the NaN has weight 0
    x = torch.tensor([1.0, 3.0, math.nan], requires_grad=True)
    mean = masked_mean(x, torch.tensor([2, 1, 0]))
    mean.backward()
    assert mean.item() == pytest.approx(5 / 3)
    torch.testing.assert_close(x.grad, torch.tensor([2 / 3, 1 / 3, 0.0]))


def test_the_empty_mean_is_a_zero_with_gradient() -> None:
    x = torch.tensor([1.0, math.inf], requires_grad=True)
    mean = masked_mean(x, torch.zeros(2, dtype=torch.bool))
    mean.backward()
    assert mean.item() == 0.0
    torch.testing.assert_close(x.grad, torch.zeros(2))


# ---------------------------------------------------------------- law 1: observations and padding have no share
def loss_of(calls: list[list[int]], observations: list[int], rewards: list[float], padding: int) -> tuple[float, Tensor, list[float]]:
    """Build the token sequence of an episode, and return its PPO loss, the gradient over the vocabulary, the advantages.

    The "model" knows no context: one row of logits for all positions, so that a gradient can be compared between
    sequences of different length.
    """
    table = torch.linspace(-1, 1, 8).requires_grad_()
    tokens, step_of = [0, 0, 0], [-1, -1, -1]  # a prompt
    for t, (call, observation) in enumerate(zip(calls, observations, strict=True)):
        tokens += call + [7] * observation
        step_of += [t] * len(call) + [-1] * observation
    ids, owner = torch.tensor(tokens + [0] * padding), torch.tensor(step_of + [-1] * padding)
    at = torch.nonzero(owner >= 0).squeeze(1)  # (N,) positions of action tokens
    advantages = step_gae(rewards, [0.3] * len(rewards), 0.0, 0.9, 0.8)
    hidden = table.expand(len(ids), 8)[at - 1]  # the position before predicts the token
    logprobs, _ = action_logprobs(hidden, lambda h: h, ids[at], chunk=3)
    per_step = torch.tensor(advantages, dtype=torch.float32)
    loss, _ = ppo_clip(logprobs, logprobs.detach() - 0.05, per_step[owner[at]], 0.2)
    mean = masked_mean(loss, torch.ones_like(loss))
    mean.backward()
    assert table.grad is not None
    return mean.item(), table.grad, advantages.tolist()


@settings(max_examples=40)
@given(st.data())
def test_observations_and_padding_change_neither_advantages_nor_loss(data: Any) -> None:
    calls = data.draw(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4))
    lengths = st.lists(st.integers(0, 40), min_size=len(calls), max_size=len(calls))
    rewards = data.draw(st.lists(st.floats(-1, 1), min_size=len(calls), max_size=len(calls)))
    bare_loss, bare_gradient, bare_advantages = loss_of(calls, [0] * len(calls), rewards, 0)
    loss, gradient, advantages = loss_of(calls, data.draw(lengths), rewards, data.draw(st.integers(0, 9)))
    assert advantages == bare_advantages
    assert loss == bare_loss
    torch.testing.assert_close(gradient, bare_gradient)  # summed over the positions, in another order


def test_the_last_step_reaches_every_action_token() -> None:
    solved, failed = (step_gae([0, 0, final], [0.3] * 3, 0.0, 0.9, 0.8) for final in (1, 0))
    tokens = np.repeat(solved - failed, [2, 3, 1])
    np.testing.assert_allclose(tokens, np.repeat([0.72**2, 0.72, 1.0], [2, 3, 1]))


# ---------------------------------------------------------------- mistakes
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ppo_clip(torch.zeros(3), torch.zeros(3, 1), torch.zeros(3), 0.2), r"old_logprobs has shape \(3, 1\), but logprobs has shape \(3,\)"),
        (lambda: ppo_clip(torch.zeros(3), torch.zeros(3), torch.zeros(1), 0.2), "advantages has shape"),
        (lambda: ppo_clip(torch.zeros(3), torch.zeros(3), torch.zeros(3), 0.0), "clip must be positive, got 0.0"),
        (lambda: value_loss(torch.zeros(3, 1), torch.zeros(3)), "returns has shape"),
        (lambda: kl_k3(torch.zeros(3), torch.zeros(2)), "ref_logprobs has shape"),
        (lambda: masked_mean(torch.zeros(3), torch.zeros(3, 1)), "weight has shape"),
        (lambda: action_logprobs(torch.zeros(2, 3), lambda h: h, torch.zeros(3, dtype=torch.int64)), "expected hidden of shape"),
        (lambda: action_logprobs(torch.zeros(2, 3), lambda h: h, torch.zeros(2, dtype=torch.int64), chunk=0), "chunk must be at least 1"),
    ],
)
def test_mistakes_are_named(call: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()
