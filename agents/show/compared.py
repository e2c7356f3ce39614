"""Ten episodes before and after training, side by side: of the same tasks, so chosen that learning, forgetting and failing can be seen."""

from __future__ import annotations

from collections.abc import Sequence

from steptool_env.html import as_text, episode_body
from steptool_env.rendering import shortened
from steptool_env.words import counted

from ..trajectory import Trajectory
from ..trajectory.shown import conclusion, ending, labels, shown_steps, total_reward
from .episodes import errors

__all__ = ["compared_episodes"]

_EPISODES = 10
_MOST_TEXT, _MOST_STEPS, _MOST_TOKENS = 800, 16, 100
"""What bounds the size of a page: characters of a text, steps of an episode, squares of a step."""
_QUOTA = {"learned": 4, "lost": 2, "failed both times": 2, "solved both times": 2}
"""Kind of task -> how many are shown if there are enough of all kinds."""


def compared_episodes(before: Sequence[Trajectory], after: Sequence[Trajectory], *, share: int = 1) -> str:
    """Return episodes as HTML, each folded away behind what came out of it, and how many tasks there are of each kind.

    Args:
        before: Those played before training; empty if there are none.
        after: Those played after it; the same tasks in the same order.
        share: Among how many runs a page is divided; two tasks are always shown.
    """
    paired = len(before) == len(after) and all(one.task.id == other.task.id for one, other in zip(before, after, strict=True))
    kinds = [_kind(before[index] if paired else None, episode) for index, episode in enumerate(after)]
    chosen = _choose(kinds, min(len(after), max(2, _EPISODES // share)))
    counts = [f"{kind}: {kinds.count(kind)}" for kind in (_QUOTA if paired else ("solved", "failed"))]
    parts = [f"<p>{counted(len(chosen), 'task')} of {len(after)} ({as_text(', '.join(counts))}).</p>"]
    for index in chosen:
        episodes = [("before", before[index])] if paired else []
        parts.append(_pair(index, kinds[index], [*episodes, ("after" if paired else "played", after[index])]))
    return "\n".join(parts)


def _kind(before: Trajectory | None, after: Trajectory) -> str:
    solved = after.success >= 1.0
    if before is None:
        return "solved" if solved else "failed"
    if (before.success >= 1.0) != solved:
        return "learned" if solved else "lost"
    return "solved both times" if solved else "failed both times"


def _choose(kinds: Sequence[str], count: int) -> list[int]:
    """Return indices, first as many of each kind as ``_QUOTA`` says, then whatever comes first; the same ones for the same kinds."""
    chosen: list[int] = []
    for kind, quota in (_QUOTA if set(kinds) <= set(_QUOTA) else {"solved": 5, "failed": 5}).items():
        chosen += [index for index, found in enumerate(kinds) if found == kind][:quota]
    chosen = chosen[:count]
    rest = [index for index in range(len(kinds)) if index not in set(chosen)]
    return sorted(chosen + rest[: count - len(chosen)])


def _pair(index: int, kind: str, episodes: Sequence[tuple[str, Trajectory]]) -> str:
    task = episodes[-1][1].task
    about = shortened(", ".join([f"{index}", task.id, *labels(episodes[-1][1]), kind]), 300)
    asked = f'<p class="faint">{as_text(about)}</p><p class="asked">{as_text(shortened(task.instruction, _MOST_TEXT))}</p>'
    return f'<div class="pair">{asked}{"".join(_episode(when, episode) for when, episode in episodes)}</div>'


def _episode(when: str, episode: Trajectory) -> str:
    solved, reward = episode.success >= 1.0, total_reward(episode)
    found = errors(episode)
    told = [f"{when}: {ending(episode)}", counted(len(episode.steps), "call"), *([counted(len(found), "error")] if found else [])]
    told.append("reward missing" if reward is None else f"reward {reward:+.3f}")
    steps = shown_steps(episode, _MOST_TEXT, _MOST_TOKENS)
    body = episode_body("", steps, shortened(conclusion(episode), _MOST_TEXT), solved=solved, most=_MOST_STEPS)
    return f'<details><summary class="{"good" if solved else "bad"}">{as_text(", ".join(told))}</summary>\n{body}</details>'
