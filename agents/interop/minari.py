"""Trajectories as a Minari data set."""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from steptool_env.errors import InvalidArgument, missing_extra
from steptool_env.types import ToolCall

from ..trajectory import Trajectory

__all__ = ["to_minari"]


def to_minari(trajectories: Sequence[Trajectory], dataset_id: str, *, description: str = "", **options: Any) -> Any:
    """Write trajectories as a Minari data set (in Minari's own folder, ``MINARI_DATASETS_PATH``) and return it.

    Observations are the transcript so far and actions the calls, both as ASCII JSON; rewards, terminations and truncations are
    those of the steps. Masked steps have reward 0 and ``infos["masked"]`` set.

    Args:
        trajectories: The episodes, at least one.
        dataset_id: Id of the data set, such as ``"steptool/worlds-v0"``.
        description: Description of the data set.
        options: Further keywords of ``minari.create_dataset_from_buffers``.

    Raises:
        MissingExtra: The package minari is not installed.
        InvalidArgument: There are no trajectories.
    """
    try:
        importlib.import_module("h5py")  # Minari itself imports it only when it writes
        import minari
        from minari.data_collector import EpisodeBuffer
    except ImportError as fault:
        raise missing_extra("a Minari data set", fault, "minari") from fault
    if not trajectories:
        raise InvalidArgument("a data set needs at least one trajectory")
    buffers, longest = [], 1
    for number, trajectory in enumerate(trajectories):
        transcript = [["user", trajectory.task.instruction]]
        observations, actions = [json.dumps(transcript)], []
        for step in trajectory.steps:
            action = step.transition.action
            call = action.as_dict() if isinstance(action, ToolCall) else {"text": action.text}
            actions.append(json.dumps(call))
            transcript += [["assistant", actions[-1]], ["tool", step.transition.result.content]]
            observations.append(json.dumps(transcript))
        longest = max(longest, *map(len, observations), *map(len, actions))
        masked = np.array([False, *trajectory.masked])
        buffers.append(
            EpisodeBuffer(
                id=number,
                observations=observations,
                actions=actions,
                rewards=[float(reward) for reward in trajectory.rewards],
                terminations=[step.transition.terminated for step in trajectory.steps],
                truncations=[step.transition.truncated for step in trajectory.steps],
                infos={"masked": masked},
            )
        )
    space = gym.spaces.Text(longest, charset="".join(map(chr, range(32, 127))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the missing author and code address; both are optional
        about = description or None
        return minari.create_dataset_from_buffers(dataset_id, buffers, observation_space=space, action_space=space, description=about, **options)
