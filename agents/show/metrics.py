"""What every metric of a run means: the one list, which the report, ``docs/metrics.md`` and a test of what runs write are made from."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["METRICS", "Metric", "metric"]


class Metric(NamedTuple):
    """A number that a run logs at every update."""

    name: str
    """As in ``metrics.jsonl``; one that ends in ``<…>`` stands for several."""
    unit: str
    meaning: str
    logged_by: str = "all"
    """The algorithms that log it, in words."""


_GRADIENT = "those with a policy gradient"
_PAIRS = "`eto`, `trajectory-dpo`"
_SERVED = "runs with `servers`"

METRICS: dict[str, tuple[Metric, ...]] = {
    "The episodes of the update": (
        Metric("success", "share", "Mean verdict over the episodes: training tasks, sampled actions. Held-out success is in `report.json`."),
        Metric("reward", "", "Sum of the rewards of an episode, hindsight included; the mean over the episodes that have one."),
        Metric("reward/<part>", "", "The same for one part of the reward, as the shaper names it. The parts add up to `reward`."),
        Metric("call_success", "share", "Calls without a mistake of the model's. Calls that failed by somebody else's fault are left out."),
        Metric("call_accuracy", "share", "Calls that raised the progress, or were a `finish` that solved the task; of the same calls as `call_success`."),
        Metric("errors/<kind>", "share", "Calls that ended with this [kind of error](tools.md#whose-fault); of all calls."),
        Metric("steps", "calls", "Calls per episode, `finish` included."),
        Metric("masked", "episodes", "Episodes that an infrastructure fault cut off. They count as not solved, and training ignores the step."),
        Metric("action_length", "tokens", "Tokens that the policy wrote for one call, reasoning included; the mean."),
        Metric("action_tokens", "tokens", "The same, summed over all calls of the update."),
    ),
    "Learning": (
        Metric("policy_loss", "", "The clipped objective, with its sign turned, per action token; near `0`, and no measure of progress.", _GRADIENT),
        Metric("entropy", "nats per token", "Entropy of the policy at the tokens that it wrote. Near `0`, it explores no more.", _GRADIENT),
        Metric("approx_kl", "nats per token", "Estimated KL divergence between the policy that played and the one that learns (the k3 estimator).", _GRADIENT),
        Metric("clip_fraction", "share", "Action tokens (with `ratio=step`: steps) whose ratio was clipped. Above `0.3`, updates are too large.", _GRADIENT),
        Metric("kl", "nats per token", "KL term to the policy after the warm start, before its weight; only if `kl` is positive.", _GRADIENT),
        Metric("grad_norm", "", "Norm of the gradient before it was clipped to `max_grad_norm`; the mean over optimizer steps.", f"{_GRADIENT}; {_PAIRS}"),
        Metric("imitation_loss", "nats per token", "Negative log-likelihood of what is imitated again; only with `imitate`.", f"{_GRADIENT}; `rft`"),
        Metric("value_loss", "reward²", "Loss of the critic in the last of its passes.", "those with a critic"),
        Metric(
            "explained_variance",
            "share",
            "How much of the variance of the returns the critic's values explain: `1` is perfect, `0` is no better than their mean, and below that is worse.",
            "those of `step_ppo.py`; `archer-lite`",
        ),
        Metric("loss", "nats per token", "Negative log-likelihood of what is imitated; of pairs, the preference loss.", f"`rft`; {_PAIRS}"),
        Metric("kept", "episodes", "Episodes that are imitated: the solved ones; with `steps`, those in which a step earned something.", "`rft`"),
        Metric("pairs", "pairs", "Pairs of a better and a worse episode that are learned from.", _PAIRS),
        Metric("accuracy", "share", "Pairs whose better episode the policy prefers more than the reference does.", _PAIRS),
        Metric("margin", "nats", "β times the difference of log π/π_ref between the better and the worse episode; the mean over pairs.", _PAIRS),
        Metric("q_loss", "reward²", "Loss of the critics of calls in their last pass.", "`archer-lite`"),
        Metric("v_loss", "reward²", "Loss of the critics of states in their last pass.", "`archer-lite`"),
    ),
    "Episodes that servers played": (
        Metric("importance", "", "Mean weight of a token, the smaller of π(learner)/π(server) and `importance_cap`; `1` where both say the same.", _SERVED),
        Metric("importance_truncated", "share", "Tokens whose weight `importance_cap` cuts.", _SERVED),
        Metric("sampling_kl", "nats per token", "Estimated KL divergence of the servers' policy from the learner's (the k3 estimator).", _SERVED),
        Metric("staleness", "updates", "By how many updates the weights of the servers were older than the learner's.", _SERVED),
        Metric("servers/playing", "servers", "Servers that took the weights of the update.", _SERVED),
        Metric("servers/failed", "times", "How often a server did not take them.", _SERVED),
        Metric("servers/moved", "times", "How often an episode went on with another server.", _SERVED),
        Metric("servers/unanswered", "episodes", "Episodes that no server answered; the step is masked.", _SERVED),
    ),
    "Cost": (
        Metric("seconds_rollout", "s", "Time to play the episodes."),
        Metric("seconds_update", "s", "Time to learn from them."),
        Metric("tokens_per_second", "tokens/s", "Tokens generated and passed forward, over the time of the whole update."),
        Metric("seconds/<phase>", "s", "Time in one phase: `generate`, `tools`, `encode`, `forward`, `backward`, `optimizer`, `critic`, `other`."),
        Metric("tokens/<phase>", "tokens", "Tokens that the phase has processed."),
        Metric("env_steps", "calls", "Calls in training environments since the warm start."),
        Metric("model_tokens", "tokens", "Tokens read, written or trained on since the warm start."),
    ),
}
"""Group -> its metrics, in the order of the page."""

_BY_NAME = {found.name: found for group in METRICS.values() for found in group}


def metric(name: str) -> Metric | None:
    """Return what a name in ``metrics.jsonl`` means; None for a user's own.

    >>> metric("reward/con").name, metric("success").unit, metric("mine")
    ('reward/<part>', 'share', None)
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    family, slash, _ = name.partition("/")
    return next((found for pattern, found in _BY_NAME.items() if slash and pattern.startswith(f"{family}/<")), None)
