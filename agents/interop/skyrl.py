"""Any suite as a text environment of SkyRL-gym, so that SkyRL plays it on its cluster; rewards by any shaper.

    register("steptool", "worlds", shaper="steptool", level=1)           # in the process that plays: SkyRL's entry point
    rows = prompts("steptool", range(64))                                # the data, as SkyRL reads it from a Parquet or JSONL file

The model's text is read by a call format, and results come back as turns of the user, as with this package's own policies. Each step is paid
where it is made.

SkyRL cannot leave out an episode: one whose infrastructure failed ends there, keeps what was paid before, and is counted in ``masked``.
An episode that outgrows the model's context is cut by SkyRL and not told to the environment; ``apply_overlong_filtering`` leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from steptool_env import RewardShaper, TaskSuite, as_chat
from steptool_env.errors import UnknownName, missing_extra
from steptool_env.wrappers import StepToolTextEnv

from .visit import Visit

try:
    import skyrl_gym
    from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput
except ImportError as fault:
    raise missing_extra("playing in SkyRL", fault, "skyrl") from fault

__all__ = ["SkyEnvironment", "prompts", "register"]


class SkyEnvironment(BaseTextEnv):  # type: ignore[misc]  # the package has no types
    """One episode. ``register`` makes subclasses of it that know their suite.

    Args:
        env_config: SkyRL's settings for environments of this name; none are used.
        extras: The row of the data: ``task``, its index, and ``max_turns``, which SkyRL adds from its own settings.
    """

    source: ClassVar[StepToolTextEnv]
    """Has the suite; every episode plays in a fresh environment like it."""

    def __init__(self, env_config: Any = None, extras: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._task = (extras or {})["task"]
        self.max_turns = (extras or {}).get("max_turns")
        self._visit = Visit(self.source._fresh(), self.max_turns)

    def init(self, prompt: list[dict[str, str]]) -> tuple[list[dict[str, str]], dict[str, Any]]:
        """Start the episode; the row of the data has its prompt already."""
        self._visit.start(self._task)
        return prompt, {"task_id": self._visit.episode.task.id}

    def step(self, action: str) -> BaseTextEnvStepOutput:
        """Execute the first call in the text; a text without one is answered by an error."""
        self.turns += 1
        messages, reward = self._visit.play(action)
        observations = [] if self._visit.ended else [{"role": "user", "content": self._visit.turn(messages)}]
        return BaseTextEnvStepOutput(observations=observations, reward=reward, done=self._visit.ended, metadata={"masked": self._visit.masked})

    def get_metrics(self) -> dict[str, float]:
        """Return ``success``, ``masked`` and ``steps``; SkyRL logs the mean of each. A masked episode has no success."""
        metrics = {"masked": float(self._visit.masked), "steps": float(self.turns)}
        return metrics if self._visit.masked else {**metrics, "success": self._visit.success}


def register(name: str = "steptool", suite: str | TaskSuite = "worlds", *, shaper: str | RewardShaper = "steptool", **options: Any) -> None:
    """Make a suite known to SkyRL-gym, in place of what had this name.

    Args:
        name: The ``env_class`` of the rows.
        suite: A name, or a suite.
        shaper: A name, or a callable.
        options: Of ``StepToolTextEnv``: ``call_format=``, ``max_steps=`` (the smaller one of it and SkyRL's ``max_turns`` holds), and those
            of the suite when it is given by name.
    """
    source = StepToolTextEnv(suite, shaper, **options)  # raises now, and not on the cluster
    skyrl_gym.registry.pop(name, None)
    # A class, because SkyRL-gym copies keywords for every episode, and asks the class for means over episodes.
    skyrl_gym.register(id=name, entry_point=type("SteptoolEnvironment", (SkyEnvironment,), {"source": source}))


def prompts(name: str = "steptool", tasks: Iterable[int] | None = None) -> list[dict[str, Any]]:
    """Return the rows of SkyRL's data: ``prompt``, ``env_class`` and ``task``.

    Args:
        name: As registered.
        tasks: Indices of the tasks; all of them by default.

    Raises:
        UnknownName: Nothing is registered by this name.
    """
    kind = getattr(skyrl_gym.registry.get(name), "entry_point", None)
    if not (isinstance(kind, type) and issubclass(kind, SkyEnvironment)):
        raise UnknownName("environment of steptool_agents.interop.skyrl", name, skyrl_gym.registry)
    env = kind.source._fresh()
    rows = []
    for task in range(len(env.suite)) if tasks is None else tasks:
        observation, _ = env.reset(options={"task": task})
        chat = as_chat(observation["messages"])
        rows.append({"prompt": [{"role": "system", "content": env.instructions()}, *chat], "env_class": name, "task": task})
    return rows
