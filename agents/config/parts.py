"""The parts of a run's settings. The defaults train ``tiny`` on ``worlds`` level 2 in a few minutes on two cores.

pydantic checks types and ranges when a part is made, so that an invalid value does not surface in the middle of a run.
Every name is in one part only, so that ``lr`` means ``learning.lr``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from steptool_env.errors import InvalidArgument
from steptool_env.reference import absolute, absolute_paths

from .presets import CHAINS

__all__ = ["LearningConfig", "ModelConfig", "Part", "RolloutConfig", "RunConfig", "TaskConfig", "WarmStartConfig", "bounded"]

_MOST = 2**63 - 1
"""The largest seed that all random generators take, and more than anybody counts."""
Count = Annotated[int, Field(ge=1, le=_MOST)]
Amount = Annotated[int, Field(ge=0, le=_MOST)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Shares = Share | Annotated[list[Share], Field(min_length=2, max_length=2)]
NotNegative = Annotated[float, Field(ge=0)]


def bounded(value: Any, name: str = "an option") -> Any:
    """Refuse numbers that no suite, shaper or algorithm can count with, wherever they are in the value."""
    if isinstance(value, int) and abs(value) > _MOST:
        raise InvalidArgument(f"{name} must be less than 2**63, got a number of {len(str(value))} digits")
    if isinstance(value, Mapping):
        for key, entry in value.items():
            bounded(entry, str(key))
    elif isinstance(value, (list, tuple)):
        for entry in value:
            bounded(entry, name)
    return value


Options = Annotated[dict[str, Any], AfterValidator(bounded), AfterValidator(absolute_paths)]
"""Keywords. Files among them are stored with their absolute paths: a run is also evaluated and resumed from other folders."""
Named = Annotated[str, AfterValidator(absolute)]
"""A name of a registry, or a reference (``steptool_env/reference.py``); that to a file is stored with its absolute path."""


class Part(BaseModel):
    """Base of all parts: immutable, without unknown names, and without type conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=False, protected_namespaces=())


class TaskConfig(Part):
    """Tasks and rewards."""

    suite: Named = "worlds"
    """A name of ``steptool_env.SUITES``, ``module:Class``, or a Python file."""
    suite_options: Options = Field(default_factory=lambda: dict(CHAINS))
    """Keywords of the suite, without ``split``: training uses ``train``, evaluation ``test``."""
    shaper: Named = "steptool"
    """A name of ``steptool_env.SHAPERS``, ``module:object``, or a Python file."""
    shaper_options: Options = Field(default_factory=dict)
    """Keywords of the shaper. A shaper that takes ``gamma`` gets ``learning.gamma`` unless it is given here."""
    max_steps: Count | None = None
    """Overrides the step budget of the tasks."""
    show_budget: bool = False
    """Tell the policy how many calls it has left: with the task, and with every result."""
    fault_rate: Shares = 0.0
    """Share of the calls in training episodes that fail; ``[0, 0.3]``: every task draws its own share between these. Held-out tasks are played
    without."""
    fault_options: Options = Field(default_factory=dict)
    """Further keywords of ``Faulty`` for these failures, such as ``{"lasting": 0.5}``: after half of them, the tool stays down."""


class ModelConfig(Part):
    """The model, its device, and its memory."""

    name: str = "tiny"
    """``tiny``, ``smollm2``, ``gemma3-270m``, a folder, or a hub name."""
    call_format: str = "auto"
    """How calls are written: ``auto`` (the chat template's own words where it has a section for tools, else ``hermes``), ``native`` (the former,
    or an error), or a name of ``steptool_env.FORMATS``, which is explained in text."""
    chat_template_options: Options = Field(default_factory=dict)
    """Keywords of the chat template, such as ``{"enable_thinking": false}``."""
    lora_rank: Amount = 0
    """0 trains all weights."""
    bfloat16: bool | None = None
    """Forward passes in bfloat16; null: only for pretrained models, and where the processor is faster with it."""
    device: str = "auto"
    """Device of the model: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` …; ``"auto"``: a GPU if there is one, but the CPU for ``tiny``."""
    token_budget: Count = 4096
    """Maximum number of tokens in one forward pass; bounds memory, changes no result."""
    gradient_checkpointing: bool | Literal["selective"] = False
    """Recompute activations in the backward pass: less memory, more time. ``"selective"``: only those that are cheap to recompute."""
    sharded: bool = False
    """Shard weights, gradients and optimizer state over the processes (FSDP) instead of replicating them; see
    ``parallel/sharding.py``. Less memory, more communication, the same gradient. No effect with one process; a run can be resumed with
    any number of processes."""


class WarmStartConfig(Part):
    """Supervised learning from an oracle's demonstrations, before reinforcement learning."""

    demos: Amount = 500
    """Number of demonstrations; 0 skips the warm start."""
    demo_options: Options = Field(default_factory=lambda: {"depth": [2, 2]})
    """Keywords of the suite for demonstrations only: by default they show only tasks of two calls, none of three or four."""
    demo_mistakes: Share = 0.2
    """Share of demonstrated steps with a mistake. The mistakes carry no loss; they teach recovery. See ``policies/mistakes.py``.
    Tools whose state cannot be copied show none."""
    demo_fault_rate: Shares = 0.0
    """Share of the demonstrated calls that fail, as ``fault_rate``; they show that to try again helps."""
    demo_epochs: Amount = 1
    """Passes over the demonstrations; 0 skips the warm start."""
    demo_batch: Count = 16
    """Demonstrations per optimizer step."""
    demo_lr: NotNegative = 2e-3
    """Learning rate of the warm start."""


class RolloutConfig(Part):
    """How training episodes are played."""

    episodes: Count = 128
    """Episodes per update."""
    group: Count = 1
    """Episodes of the same task within an update; credit schemes that compare episodes need 2 or more."""
    temperature: Positive = 1.0
    """Sampling temperature in training; evaluation is greedy."""
    max_new_tokens: Count = 12
    """Maximum length of an action, in tokens."""
    max_reasoning_tokens: Count | None = None
    """Reasoning that has not ended after so many tokens of an action is ended: the closing mark is written for the model, and not learned
    from. Null: it may take the whole action."""
    constrained: bool = False
    """Constrain generation in rollouts to valid calls; needs the extra ``constrained``."""
    cache_budget: Count = 262_144
    """Maximum number of tokens in the KV cache during rollouts; further episodes wait. Bounds memory, changes no result."""
    servers: Annotated[str, AfterValidator(absolute_paths)] = ""
    """Endpoints that generate instead of this process, such as ``http://a:8000/v1,http://b:8000/v1``, or a file with one a line, which is
    read before every update; see ``policies/served.py``."""
    server_model: str = ""
    """Name of the model on the servers; empty: ``model.name``."""
    server_folder: str = ""
    """Folder through which weights are sent, under the same path for the servers; empty: ``handover`` in the run's folder."""
    overlap: Annotated[int, Field(ge=0, le=1)] = 0
    """1: servers play the next episodes with the weights of the last update while this one learns; see ``runs/player.py``."""


class LearningConfig(Part):
    """How the policy changes."""

    algo: Named = "step-ppo"
    """A name of ``steptool_agents.ALGORITHMS``, ``module:function``, or a Python file."""
    algo_options: Options = Field(default_factory=dict)
    """Settings of this algorithm only, such as ``{"beta": 0.1}`` of ``eto``; the algorithm's docstring lists them."""
    data: Annotated[str, AfterValidator(absolute_paths)] = ""
    """The file of trajectories for ``step-ppo-offline``."""
    credit: Named = "step"
    """How rewards are attributed to steps or tokens: a scheme of ``steptool_agents.CREDIT``, ``module:function``, or a Python file."""
    gamma: Share = 1.0
    """Discount per step, not per token."""
    lam: Share = 0.5
    """λ of the credit scheme: how far the reward of a step reaches back past the critic's estimates. Where every step has its own reward, credit
    need not reach far, and a small λ has less variance; see docs/credit.md."""
    negative: Share = 0.3
    """Weight of negative advantages; see ``learning/advantages.py``."""
    epochs: Count = 2
    """Passes over the episodes of an update."""
    minibatches: Count = 8
    """Optimizer steps per pass."""
    lr: NotNegative = 3e-4
    """Learning rate of the policy at the first update."""
    lr_end: Share = 0.1
    """Learning rate at the last update, as a share of ``lr``; the decay is linear."""
    clip: Positive = 0.2
    """How far the ratio to the policy that sampled may leave 1 before it stops to count."""
    ratio: Literal["token", "step"] = "token"
    """What the clipped objective compares with the policy that sampled: each token, or each step by the geometric mean over its tokens."""
    kl: NotNegative = 0.0
    """Weight of the KL divergence to the policy after the warm start."""
    entropy: NotNegative = 0.0
    """Weight of the entropy bonus."""
    value_passes: Amount = 20
    """Passes of the value head over the steps of an update: they are cheap, since its features are computed once. 0: no critic."""
    imitate: Literal["none", "steps", "episodes"] = "steps"
    """What of the episodes of the last updates is imitated again after each update: ``none``; ``steps``, those that earned something; ``episodes``, all
    steps of solved episodes; see ``learning/again.py``. For the algorithms of ``step_ppo.py``, ``rft`` and ``archer-lite``; the others ignore it."""
    memory: Count = 4
    """Updates whose episodes are remembered for ``imitate``."""
    max_grad_norm: Positive = 1.0
    """Gradients with a larger norm are scaled down to it."""
    importance_cap: Positive = 2.0
    """Largest weight of a token that a server sampled; see ``learning/reread.py``."""


class RunConfig(Part):
    """The length of a run, and its evaluation."""

    seed: Amount = 0
    """Seeds weights, tasks and sampling."""
    updates: Amount = 36
    """Updates of the policy; each plays ``episodes`` new episodes."""
    budget_steps: Count | None = None
    """Training also ends after this many steps in training environments."""
    budget_tokens: Count | None = None
    """Training also ends after this many tokens read, written or trained on since the warm start."""
    eval_episodes: Count = 200
    """Held-out tasks evaluated before and after training."""
    eval_width: Count = 100
    """Held-out tasks played in parallel."""
    measure: Named = ""
    """Your own metrics: ``module:function`` or a Python file. Called with the episodes of every update; the numbers that it returns by name
    are logged with the others."""
    report_to: str = "tensorboard"
    """Where metrics go besides ``metrics.jsonl``: trackers of ``accelerate``, separated by commas, or ``none``."""
