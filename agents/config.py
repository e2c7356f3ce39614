"""``Config``: everything that a training run is made of; saved as ``config.json`` in its folder."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from steptool_env.errors import InvalidArgument, UnknownName

from .credit.schemes import CREDIT

__all__ = ["ALGORITHM_SETTINGS", "Config"]

_PLAIN: dict[str, Any] = {"lr": 8e-4, "epochs": 1, "negative": 1.0, "kl": 0.01, "entropy": 0.01}
"""One pass over each batch, good and bad actions alike, held to the policy of the warm start."""

ALGORITHM_SETTINGS: dict[str, dict[str, Any]] = {
    "ppo-final": {"shaper": "final", "lam": 0.9},
    "step-reinforce": {"lam": 1.0, "value_passes": 0, **_PLAIN},
    "rloo": {"credit": "rloo", "group": 8, "value_passes": 0, **_PLAIN},
    "grpo": {"credit": "grpo", "group": 8, "value_passes": 0, **_PLAIN},
    "gigpo": {"credit": "gigpo", "group": 8, "value_passes": 0, **_PLAIN},
    "rft": {"lr": 4e-4},
    "eto": {"group": 8, "lr": 4e-4, "epochs": 1},
    "archer": {"lam": 0.0, "value_passes": 0, **_PLAIN, "lr": 2e-4},
    "step-ppo-offline": {"kl": 0.01},
}
"""What an algorithm sets differently from the defaults. Those that share the loop of ``step-ppo`` are nothing but this."""


CHAINS: dict[str, Any] = {
    "level": 2,
    "depth": [2, 4],
    "replies": "field",
    "families": ["lookup", "change"],
    "domains": ["shop", "travel", "clinic"],
}
"""The tasks of ``worlds`` that ``tiny`` can read: single fields, and the words that it was pretrained on."""

PRETRAINED_CHAINS: dict[str, Any] = {"level": 2, "families": ["lookup", "change"]}
"""Those that a small pretrained model learns from a few hundred demonstrations: whole records, all domains, one to four calls."""


@dataclass(frozen=True)
class Config:
    """Settings of a run. The defaults train ``tiny`` on ``worlds`` level 2 in a few minutes on two cores."""

    algo: str = "step-ppo"
    model: str = "tiny"
    suite: str = "worlds"
    suite_options: dict[str, Any] = field(default_factory=lambda: dict(CHAINS))
    """Keywords of the suite, without ``split``: training uses ``train``, evaluation ``test``."""
    shaper: str = "steptool"
    shaper_options: dict[str, Any] = field(default_factory=dict)
    """Keywords of the shaper. One that takes ``gamma`` gets that of the run unless it is given here."""
    call_format: str = "hermes"
    max_steps: int | None = None
    """Overrides the step budget of the tasks."""
    seed: int = 0

    demos: int = 500
    """Oracle demonstrations of the supervised warm start; 0 leaves it out."""
    demo_options: dict[str, Any] = field(default_factory=lambda: {"depth": [2, 2]})
    """Keywords of the suite for demonstrations only: by default they show tasks of two calls, and none of three or four."""
    demo_mistakes: float = 0.2
    """Share of demonstrated steps with a mistake, not to be learnt, so that the way back is; see ``mistakes.py``."""
    demo_epochs: int = 1
    demo_batch: int = 16
    demo_lr: float = 2e-3

    data: str = ""
    """The file of trajectories that ``step-ppo-offline`` learns from; see ``offline.py``."""
    updates: int = 45
    """Updates of the policy; each plays ``episodes`` new episodes."""
    episodes: int = 128
    epochs: int = 2
    """Passes over the episodes of an update."""
    minibatches: int = 8
    """Optimizer steps per pass."""
    lr: float = 3e-4
    lr_end: float = 0.1
    """What is left of ``lr`` at the last update, as a share; it falls in a straight line."""
    credit: str = "step"
    """Who gets what of the rewards: a scheme of ``CREDIT``."""
    group: int = 1
    """Episodes of the same task within an update; schemes that compare episodes need 2 or more."""
    gamma: float = 1.0
    """Discount per step, not per token."""
    lam: float = 0.5
    """λ of the step-level GAE. Where every step has a reward of its own, little is to be waited for, and a small λ has less variance."""
    negative: float = 0.3
    """Weight of negative advantages, in [0, 1]; see ``crediting.py``."""
    clip: float = 0.2
    kl: float = 0.0
    """Weight of the KL divergence to the policy after the warm start."""
    entropy: float = 0.0
    value_passes: int = 20
    """Passes of the value head over the steps of an update: it is small, and its features are computed once. 0: no critic."""
    max_grad_norm: float = 1.0
    temperature: float = 1.0
    max_new_tokens: int = 12
    lora_rank: int = 0
    """0 trains all weights."""
    bfloat16: bool | None = None
    """Forward passes in bfloat16; None: for pretrained models where the processor is faster with it."""
    device: str = "auto"
    """Where the model is: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` …; ``"auto"``: on a card if there is one, but ``tiny`` on the processor."""
    token_budget: int = 2048
    """Most tokens in one forward pass; bounds memory, changes no result."""
    cache_budget: int = 262_144
    """Most tokens in the cache of keys and values while playing; beyond it, episodes wait. Bounds memory, changes no result."""
    gradient_checkpointing: bool | str = False
    """Compute activations a second time in the backward pass: less memory, more time. ``"selective"``: only what costs little."""
    sharded: bool = False
    """Several processes share weights, gradients and optimizer state out among them (FSDP) instead of holding all each; see ``sharding.py``.
    Less memory, more exchange, the same gradient. One process trains as without, so that a run can go on with any number of them."""
    servers: str = ""
    """Endpoints that play instead of this process, such as ``http://a:8000/v1,http://b:8000/v1``; see ``served.py``. Needs ``value_passes`` 0."""
    server_model: str = ""
    """What the servers call the model; empty: as ``model``."""
    server_folder: str = ""
    """Where weights are handed over, the same path for the servers; empty: ``handover`` in the run's folder."""
    constrained: bool = False
    """Only valid calls can be written while playing; needs the extra ``constrained``."""
    algo_options: dict[str, Any] = field(default_factory=dict)
    """Settings of one algorithm only, such as ``{"beta": 0.1}`` of ``eto``; its docstring names them."""
    budget_steps: int | None = None
    """Training ends, whatever ``updates`` says, once this many steps have been taken in training environments."""
    budget_tokens: int | None = None
    """The same for tokens that the model has read, written or been trained on since its warm start."""
    eval_episodes: int = 200
    """Held-out tasks before and after training."""
    eval_width: int = 100
    """Held-out tasks played side by side."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            _check_type(item.name, str(item.type), getattr(self, item.name))
        for name in ("seed", "updates", "demos", "demo_epochs", "lora_rank", "lr", "demo_lr", "kl", "entropy", "value_passes"):
            if getattr(self, name) < 0:
                raise InvalidArgument(f"{name} must not be negative, got {getattr(self, name)!r}")
        for name in ("clip", "max_grad_norm", "temperature"):
            if getattr(self, name) <= 0:
                raise InvalidArgument(f"{name} must be positive, got {getattr(self, name)!r}")
        for name in ("episodes", "group", "epochs", "minibatches", "demo_batch", "max_new_tokens", "token_budget", "eval_episodes", "eval_width"):
            if getattr(self, name) < 1:
                raise InvalidArgument(f"{name} must be at least 1, got {getattr(self, name)!r}")
        for name in ("gamma", "lam", "lr_end", "demo_mistakes", "negative"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidArgument(f"{name} must lie in [0, 1], got {getattr(self, name)!r}")
        for name in ("budget_steps", "budget_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InvalidArgument(f"{name} must be at least 1, or null for none, got {getattr(self, name)!r}")
        if self.credit not in CREDIT:
            raise UnknownName("credit scheme", self.credit, CREDIT)
        if self.gradient_checkpointing not in (False, True, "selective"):
            raise InvalidArgument(f'gradient_checkpointing must be true, false or "selective", got {self.gradient_checkpointing!r}')
        if self.servers and (self.value_passes or self.constrained):
            raise InvalidArgument("servers know neither the value head nor the grammar: set value_passes to 0 (as credit 'rloo' does) and constrained to false")
        if self.episodes % self.group:
            raise InvalidArgument(f"episodes must be a multiple of group, got {self.episodes} episodes in groups of {self.group}")

    @classmethod
    def preset(cls, model: str, suite: str, algo: str = "step-ppo") -> dict[str, Any]:
        """Return the settings that differ from the defaults for this model, suite and algorithm; the user's own come on top."""
        settings: dict[str, Any] = dict(ALGORITHM_SETTINGS.get(algo, {}))
        if suite != "worlds":
            settings |= {"suite_options": {}, "demo_options": {}}
        if model != "tiny":
            # A pretrained model needs a nudge towards the call format, not a million tokens; adapters keep memory small.
            settings |= {"lora_rank": 8, "entropy": 0.0, "kl": 0.01, "lr": 1e-4, "demo_lr": 2e-4, "demos": 8, "demo_mistakes": 0.0, "demo_batch": 4}
            settings |= {"episodes": 4, "epochs": 1, "minibatches": 1}
            settings |= {"max_new_tokens": 48, "token_budget": 4096, "eval_episodes": 4, "eval_width": 4, "updates": 20}
            settings["group"] = min(4, settings.get("group", 1))
            if suite == "worlds":
                # The longest call of a solution on levels 1 and 2 has 54 tokens with the tokenizer of ``smollm2``.
                settings |= {"suite_options": dict(PRETRAINED_CHAINS), "demo_options": {"depth": [1, 2]}, "max_new_tokens": 64}
        if suite == "bfcl":
            settings |= {"max_steps": 10}
        return settings

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON takes them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """Return the settings from ``as_dict``; raises ``UnknownName`` for a setting that does not exist."""
        known = {item.name for item in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise UnknownName("setting", name, known)
        return cls(**values)


_KINDS: dict[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,), "dict[str, Any]": (dict,), "None": (type(None),)}


def _check_type(name: str, kinds: str, value: Any) -> None:
    """Settings come from a command line or a file: a text where a number belongs must not surface in the middle of a run."""
    allowed = tuple(kind for part in kinds.split(" | ") for kind in _KINDS[part])
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise InvalidArgument(f"{name} must be of type {kinds.removesuffix('[str, Any]')}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidArgument(f"{name} must be finite, got {value!r}")
