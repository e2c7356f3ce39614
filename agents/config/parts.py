"""The parts of a run's settings. The defaults train ``tiny`` on ``worlds`` level 2 in a few minutes on two cores.

Types and ranges are checked by pydantic when a part is made: a text where a number belongs must not surface in the middle of a run.
A name stands in one part only, so that ``lr`` means ``learning.lr``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .presets import CHAINS

__all__ = ["LearningConfig", "ModelConfig", "Part", "RolloutConfig", "RunConfig", "TaskConfig", "WarmStartConfig"]

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Options = dict[str, Any]


class Part(BaseModel):
    """What all parts have in common: they never change, take no unknown names, and convert nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=False, protected_namespaces=())


class TaskConfig(Part):
    """What is asked, and what it is worth."""

    suite: str = "worlds"
    """A name of ``steptool_env.SUITES``."""
    suite_options: Options = Field(default_factory=lambda: dict(CHAINS))
    """Keywords of the suite, without ``split``: training uses ``train``, evaluation ``test``."""
    shaper: str = "steptool"
    shaper_options: Options = Field(default_factory=dict)
    """Keywords of the shaper. One that takes ``gamma`` gets that of the run unless it is given here."""
    max_steps: Count | None = None
    """Overrides the step budget of the tasks."""


class ModelConfig(Part):
    """What acts and learns, and how much memory it may take."""

    name: str = "tiny"
    """``tiny``, ``smollm2``, a folder, or a hub name."""
    call_format: str = "hermes"
    lora_rank: Amount = 0
    """0 trains all weights."""
    bfloat16: bool | None = None
    """Forward passes in bfloat16; None: for pretrained models where the processor is faster with it."""
    device: str = "auto"
    """Where the model is: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` …; ``"auto"``: on a GPU if there is one, but ``tiny`` on the processor."""
    token_budget: Count = 2048
    """Most tokens in one forward pass; bounds memory, changes no result."""
    gradient_checkpointing: bool | Literal["selective"] = False
    """Compute activations a second time in the backward pass: less memory, more time. ``"selective"``: only what costs little."""
    sharded: bool = False
    """Several processes share weights, gradients and optimizer state out among them (FSDP) instead of holding all each; see
    ``parallel/sharding.py``. Less memory, more exchange, the same gradient. One process trains as without, so that a run can go on with
    any number of them."""


class WarmStartConfig(Part):
    """Supervised learning from an oracle's demonstrations, before reinforcement learning."""

    demos: Amount = 500
    """Demonstrations; 0 leaves the warm start out."""
    demo_options: Options = Field(default_factory=lambda: {"depth": [2, 2]})
    """Keywords of the suite for demonstrations only: by default they show tasks of two calls, and none of three or four."""
    demo_mistakes: Share = 0.2
    """Share of demonstrated steps with a mistake, not to be learnt, so that the way back is; see ``policies/mistakes.py``."""
    demo_epochs: Amount = 1
    demo_batch: Count = 16
    demo_lr: NotNegative = 2e-3


class RolloutConfig(Part):
    """How training episodes are played."""

    episodes: Count = 128
    """Episodes of an update."""
    group: Count = 1
    """Episodes of the same task within an update; schemes that compare episodes need 2 or more."""
    temperature: Positive = 1.0
    max_new_tokens: Count = 12
    """Longest action, in tokens."""
    constrained: bool = False
    """Only valid calls can be written while playing; needs the extra ``constrained``."""
    cache_budget: Count = 262_144
    """Most tokens in the cache of keys and values while playing; beyond it, episodes wait. Bounds memory, changes no result."""
    servers: str = ""
    """Endpoints that play instead of this process, such as ``http://a:8000/v1,http://b:8000/v1``; see ``policies/served.py``. Needs
    ``value_passes`` 0."""
    server_model: str = ""
    """What the servers call the model; empty: as ``model.name``."""
    server_folder: str = ""
    """Where weights are handed over, the same path for the servers; empty: ``handover`` in the run's folder."""


class LearningConfig(Part):
    """How the policy changes."""

    algo: str = "step-ppo"
    """A name of ``steptool_agents.ALGORITHMS``, ``module:function``, or a Python file."""
    algo_options: Options = Field(default_factory=dict)
    """Settings of one algorithm only, such as ``{"beta": 0.1}`` of ``eto``; its docstring names them."""
    data: str = ""
    """The file of trajectories that ``step-ppo-offline`` learns from."""
    credit: str = "step"
    """Who gets what of the rewards: a scheme of ``steptool_agents.CREDIT``."""
    gamma: Share = 1.0
    """Discount per step, not per token."""
    lam: Share = 0.5
    """λ of the step-level GAE. Where every step has a reward of its own, little is to be waited for, and a small λ has less variance."""
    negative: Share = 0.3
    """Weight of negative advantages; see ``learning/advantages.py``."""
    epochs: Count = 2
    """Passes over the episodes of an update."""
    minibatches: Count = 8
    """Optimizer steps per pass."""
    lr: NotNegative = 3e-4
    lr_end: Share = 0.1
    """What is left of ``lr`` at the last update, as a share; it falls in a straight line."""
    clip: Positive = 0.2
    kl: NotNegative = 0.0
    """Weight of the KL divergence to the policy after the warm start."""
    entropy: NotNegative = 0.0
    value_passes: Amount = 20
    """Passes of the value head over the steps of an update: it is small, and its features are computed once. 0: no critic."""
    max_grad_norm: Positive = 1.0


class RunConfig(Part):
    """How long a run goes on, and what is measured."""

    seed: Amount = 0
    """Seeds weights, tasks and sampling."""
    updates: Amount = 45
    """Updates of the policy; each plays ``episodes`` new episodes."""
    budget_steps: Count | None = None
    """Training ends, whatever ``updates`` says, once this many steps have been taken in training environments."""
    budget_tokens: Count | None = None
    """The same for tokens that the model has read, written or been trained on since its warm start."""
    eval_episodes: Count = 200
    """Held-out tasks before and after training."""
    eval_width: Count = 100
    """Held-out tasks played side by side."""
    report_to: str = "tensorboard"
    """Where measurements go beside ``metrics.jsonl``: trackers of ``accelerate``, separated by commas, or ``none``."""
