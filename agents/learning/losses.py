"""Losses and their terms: pure functions of tensors, one number per action token.

N is the number of *action* tokens of a batch, gathered from all its sequences: observation, prompt and padding tokens
never reach these functions, so they can affect neither a loss nor its scale. Probabilities are computed in float32
whatever the dtype of the model. No function synchronizes with the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from steptool_env.errors import InvalidArgument

__all__ = ["action_logprobs", "dpo", "kl_k2", "kl_k3", "masked_mean", "ppo_clip", "value_loss"]

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to this: exp(20) = 5e8 is a finite float32, and far above any meaningful ratio."""

CHUNK = 2**22
"""Logits in memory at a time. The allocator reuses buffers of this size; it returns larger ones to the system and requests them again."""

_LOWEST = -1e30
"""Lower bound of log-probabilities: finite, so that the product with a probability of 0 is 0, and with a gradient does not overflow."""


class _LogProbsAndEntropy(torch.autograd.Function):
    """Log-probabilities of the targets, and entropies, of the same logits, with an in-place backward pass.

        log π(y_i) = z_i[y_i] - logsumexp_v z_i[v],    H_i = -Σ_v p_i[v]·log p_i[v]

        ∂/∂z_v (g·log π(y) + h·H) = g·(1[v = y] - p_v) - h·p_v·(log p_v + H)

    With autograd, each of a dozen operations would allocate its own (N, V) floats, which takes longer than computing them.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, with_entropy: bool) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)  # None for what is not learned from
        z = logits.float()
        total = torch.logsumexp(z, dim=-1, keepdim=True)
        logprobs = z.gather(-1, targets.unsqueeze(-1)).sub(total).squeeze(-1)
        entropy = z.new_zeros(0)
        if with_entropy:
            logp = (z - total).clamp_(min=_LOWEST)
            entropy = -logp.exp().mul_(logp).sum(-1)
        ctx.save_for_backward(logits, targets, total, entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, None, None]:
        logits, targets, total, entropy = ctx.saved_tensors
        logprob_grad = (total.new_zeros(len(targets)) if gradients[0] is None else gradients[0]).unsqueeze(-1)
        # A ruled-out token has p = 0 and log p = -inf; their product must be 0.
        logp = (logits.float() - total).clamp_(min=_LOWEST)
        if gradients[1] is not None and len(entropy):
            p = logp.exp()
            grad = logp.add_(entropy.unsqueeze(-1)).mul_(-gradients[1].unsqueeze(-1)).sub_(logprob_grad).mul_(p)
        else:
            grad = logp.exp_().mul_(-logprob_grad)
        return grad.scatter_add_(-1, targets.unsqueeze(-1), logprob_grad).to(logits.dtype), None, None


class _WithFrozenHead(torch.autograd.Function):
    """Log-probabilities and entropies of a head that does not learn, with ∂log π(y_i)/∂h_i at once, while there are logits.

    A row's log-probability depends on its own hidden state only, so the backward pass is a product of numbers: g_i·∂log π(y_i)/∂h_i.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, head: Callable[[Tensor], Tensor], chunk: int, entropy: bool) -> tuple[Tensor, Tensor]:
        logprobs, entropies = [], []
        slopes: list[Tensor] = []
        for h, y in zip(torch.split(hidden, chunk), torch.split(targets, chunk), strict=True):
            with torch.enable_grad():
                state = h.detach().requires_grad_()
                logprob, chunk_entropy = _LogProbsAndEntropy.apply(head(state), y, entropy)  # type: ignore[no-untyped-call]
                slopes += torch.autograd.grad(logprob.sum(), state)
            logprobs.append(logprob.detach())
            entropies.append(chunk_entropy.detach())
        ctx.save_for_backward(torch.cat(slopes))
        spread = torch.cat(entropies)
        ctx.mark_non_differentiable(spread)
        return torch.cat(logprobs), spread

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (slopes,) = ctx.saved_tensors
        return slopes * gradients[0].unsqueeze(-1), None, None, None, None


@overload
def action_logprobs(
    hidden: Tensor, head: Callable[[Tensor], Tensor], targets: Tensor, *, chunk: int | None = ..., entropy: Literal[False] = ..., frozen: bool = ...
) -> tuple[Tensor, None]: ...
@overload
def action_logprobs(
    hidden: Tensor, head: Callable[[Tensor], Tensor], targets: Tensor, *, chunk: int | None = ..., entropy: Literal[True], frozen: bool = ...
) -> tuple[Tensor, Tensor]: ...
def action_logprobs(
    hidden: Tensor, head: Callable[[Tensor], Tensor], targets: Tensor, *, chunk: int | None = None, entropy: bool = False, frozen: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities from hidden states, with the vocabulary projection on action positions only, and in chunks.

    The (N, V) logits are never in memory all at once: each chunk's logits are computed, used and freed, and recomputed in the
    backward pass (gradient checkpointing), so the peak is chunk·V instead of N·V floats. The result does not depend on ``chunk``.

    Args:
        hidden: (N, H) the states that predict the targets, that is, of the positions just *before* the action tokens.
        head: Maps (n, H) to (n, V) logits, for example the model's ``lm_head``.
        targets: (N,) int64 token ids.
        chunk: Positions projected at a time; by default as many as fit their float32 logits into 16 MB.
        entropy: Also return the entropies.
        frozen: Neither the head nor the entropies are learned from: then the logits are made once, and not again in the backward pass.

    Returns:
        (N,) float32 log-probabilities, and (N,) float32 entropies in nats, or None.

    Raises:
        InvalidArgument: The shapes do not match, or ``chunk`` is less than 1.
    """
    _check_rows("hidden", hidden, "targets", targets)
    if chunk is not None and chunk < 1:
        raise InvalidArgument(f"chunk must be at least 1, got {chunk}")

    def project(h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return _LogProbsAndEntropy.apply(head(h), y, entropy)  # type: ignore[no-any-return,no-untyped-call]

    if chunk is None:
        with torch.no_grad():
            chunk = max(1, CHUNK // head(hidden[:1]).shape[-1])
    if frozen and torch.is_grad_enabled() and hidden.requires_grad:
        found, spread = _WithFrozenHead.apply(hidden, targets, head, chunk, entropy)  # type: ignore[no-untyped-call]
        return found, spread if entropy else None
    recompute = torch.is_grad_enabled() and len(targets) > chunk
    logprobs, entropies = [], []
    for h, y in zip(torch.split(hidden, chunk), torch.split(targets, chunk), strict=True):
        logprob, chunk_entropy = checkpoint(project, h, y, use_reentrant=False) if recompute else project(h, y)
        logprobs.append(logprob)
        entropies.append(chunk_entropy)
    return torch.cat(logprobs), torch.cat(entropies) if entropy else None


def ppo_clip(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip: float, weight: Tensor | None = None, steps: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Clipped surrogate objective of PPO, negated, per token.

        ρ_i = exp(log π(a_i) - log π_old(a_i))
        loss_i = -min(ρ_i·A_i, clamp(ρ_i, 1-ε, 1+ε)·A_i)

    With ``steps``, all tokens of a step s share one ratio, the geometric mean of theirs, so that a call is clipped as a whole:

        ρ_i = exp(1/|s|·Σ_{j∈s} (log π(a_j) - log π_old(a_j)))           for i in s

    Source: Schulman et al., "Proximal Policy Optimization Algorithms" (arXiv 1707.06347), equation 7; of the
    ratio per step: Li et al., "ST-PPO: Stabilized Off-Policy Proximal Policy Optimization for Multi-Turn Agents" (arXiv 2511.20718),
    equation 4, turn-level importance sampling. At ρ = 1 the
    gradient is the policy gradient, -A_i·∇log π(a_i). It is zero where clipping binds: ρ > 1+ε with A > 0, or ρ < 1-ε
    with A < 0.

    Args:
        logprobs: (N,) log π(a_i) under the policy being trained.
        old_logprobs: (N,) log π_old(a_i) under the policy that sampled, as recorded then; no gradient flows into it.
        advantages: (N,) A of the *step* that token i belongs to; no gradient flows into it.
        clip: ε > 0.
        weight: (N,) weight of each token in the diagnostics; None: all equal. The loss is not weighted.
        steps: (N,) int64 number of the step that each token belongs to; None: a ratio per token.

    Returns:
        (N,) loss to be minimized, and diagnostics without gradient, () each: ``"clip_fraction"``, the share of tokens with
        ρ outside [1-ε, 1+ε], and ``"approx_kl"``, an estimate of KL(π_old‖π) in nats, never negative (see ``kl_k3``).

    Raises:
        InvalidArgument: The shapes differ, or ``clip`` is not positive.
    """
    _check_same_shape("logprobs", logprobs, old_logprobs=old_logprobs, advantages=advantages)
    if not clip > 0:
        raise InvalidArgument(f"clip must be positive, got {clip!r}")
    old, advantages = old_logprobs.detach(), advantages.detach()
    log_ratio = logprobs - old
    if steps is not None:
        _check_same_shape("logprobs", logprobs, steps=steps)
        log_ratio = _mean_per_step(log_ratio, steps)
    ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    loss = -torch.minimum(ratio * advantages, ratio.clamp(1.0 - clip, 1.0 + clip) * advantages)
    with torch.no_grad():
        counted = torch.ones_like(ratio) if weight is None else weight
        outside = ((ratio - 1.0).abs() > clip).to(ratio.dtype)
        diagnostics = {"clip_fraction": masked_mean(outside, counted), "approx_kl": masked_mean(kl_k3(old, logprobs), counted)}
    return loss, diagnostics


def value_loss(values: Tensor, returns: Tensor) -> Tensor:
    """Squared error of the critic, per step.

        loss_t = ½·(V_t - R_t)²

    Args:
        values: (T,) V_t of the critic being trained.
        returns: (T,) R_t; no gradient flows into it.

    Returns:
        (T,) loss to be minimized.

    Raises:
        InvalidArgument: The shapes differ.
    """
    _check_same_shape("values", values, returns=returns)
    return 0.5 * (values - returns.detach()) ** 2


def kl_k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """KL(π‖π_ref) as a loss: a term whose gradient is that of the divergence, per token.

        k2_i = ½·(log π(a_i) - log π_ref(a_i))²,    ∇k2_i = (log π(a_i) - log π_ref(a_i))·∇log π(a_i)

    In expectation over tokens sampled from π, the gradient is ∇KL(π‖π_ref). That of ``kl_k3`` is not, and it grows with
    π_ref/π: one token that the policy now hardly ever chooses can outweigh a whole batch. Source of the estimator: Schulman,
    "Approximating KL Divergence" (joschu.net/blog/kl-approx.html, 2020); of its gradient: Tang and Munos, "On a few
    pitfalls in KL divergence gradient estimation for RL" (arXiv 2506.09477).

    Args:
        logprobs: (N,) log π(a_i).
        ref_logprobs: (N,) log π_ref(a_i) of the same tokens.

    Returns:
        (N,) in nats, ≥ 0.

    Raises:
        InvalidArgument: The shapes differ.
    """
    _check_same_shape("logprobs", logprobs, ref_logprobs=ref_logprobs)
    return 0.5 * (logprobs - ref_logprobs.detach()).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO) ** 2


def kl_k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Estimate KL(π‖π_ref) from tokens sampled from π, per token.

        k3_i = exp(d_i) - 1 - d_i  with  d_i = log π_ref(a_i) - log π(a_i)

    Unbiased for samples from π, never negative, and of low variance. Source: Schulman, "Approximating KL Divergence"
    (joschu.net/blog/kl-approx.html, 2020).

    Args:
        logprobs: (N,) log π(a_i).
        ref_logprobs: (N,) log π_ref(a_i) of the same tokens.

    Returns:
        (N,) in nats, ≥ 0.

    Raises:
        InvalidArgument: The shapes differ.
    """
    _check_same_shape("logprobs", logprobs, ref_logprobs=ref_logprobs)
    d = (ref_logprobs - logprobs).clamp(max=MAX_LOG_RATIO)
    return (torch.expm1(d) - d).clamp(min=0.0)  # the last bit of the difference may fall below zero


def dpo(chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Direct preference optimization over whole episodes, per pair.

        h = (log π(τ_w) - log π_ref(τ_w)) - (log π(τ_l) - log π_ref(τ_l))
        loss = -log σ(β·h)

    where log π(τ) is the sum over the action tokens of the episode. Source: Rafailov et al., "Direct Preference Optimization"
    (arXiv 2305.18290), equation 7; over the actions of a trajectory: Song et al., "Trial and Error: Exploration-Based
    Trajectory Optimization for LLM Agents" (ETO, arXiv 2403.02502), equation 5.

    Args:
        chosen: (P,) log π of the better episode of each pair.
        rejected: (P,) log π of the worse one.
        ref_chosen: (P,) log π_ref of the better one; no gradient flows into it.
        ref_rejected: (P,) log π_ref of the worse one; no gradient flows into it.
        beta: β > 0, how strongly the policy is held to the reference.

    Returns:
        (P,) loss, and diagnostics without gradient, () each: ``"accuracy"``, the share of pairs with h > 0, and ``"margin"``,
        the mean of h in nats.

    Raises:
        InvalidArgument: The shapes differ, or ``beta`` is not positive.
    """
    _check_same_shape("chosen", chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    if not beta > 0:
        raise InvalidArgument(f"beta must be positive, got {beta!r}")
    margin = (chosen - ref_chosen.detach()) - (rejected - ref_rejected.detach())
    with torch.no_grad():
        diagnostics = {"accuracy": (margin > 0).float().mean(), "margin": margin.mean()}
    return -torch.nn.functional.logsigmoid(beta * margin), diagnostics


def masked_mean(x: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over all entries.

        Σ_i w_i·x_i / Σ_i w_i                    and 0 if Σ_i w_i = 0

    Entries with weight 0 are ignored: whatever they hold, NaN included, affects neither the result nor the gradient.
    An empty mean is 0, and ``backward`` can be called on it.

    Args:
        x: Values of any shape.
        weight: Weights of the same shape, ≥ 0; bool, integer or floating.

    Returns:
        () in the dtype of ``x``.

    Raises:
        InvalidArgument: The shapes differ.
    """
    _check_same_shape("x", x, weight=weight)
    w = weight.to(x.dtype)
    total = w.sum()
    return (w * torch.where(w != 0, x, torch.zeros_like(x))).sum() / torch.where(total != 0, total, torch.ones_like(total))


def _mean_per_step(x: Tensor, steps: Tensor) -> Tensor:
    """(N,) the mean over the tokens of each token's step."""
    if not len(steps):
        return x
    count = int(steps.max()) + 1
    sizes = torch.bincount(steps, minlength=count)
    return (x.new_zeros(count).index_add(0, steps, x) / sizes.clamp(min=1))[steps]


def _check_rows(matrix_name: str, matrix: Tensor, vector_name: str, vector: Tensor) -> None:
    if matrix.ndim != 2 or vector.shape != matrix.shape[:1]:
        raise InvalidArgument(f"expected {matrix_name} of shape (N, ·) and {vector_name} of shape (N,), got {tuple(matrix.shape)} and {tuple(vector.shape)}")


def _check_same_shape(name: str, x: Tensor, **tensors: Tensor) -> None:
    for tensor_name, y in tensors.items():  # otherwise (N,) and (N, 1) would silently broadcast to (N, N)
        if y.shape != x.shape:
            raise InvalidArgument(f"{tensor_name} has shape {tuple(y.shape)}, but {name} has shape {tuple(x.shape)}; they must be equal")
