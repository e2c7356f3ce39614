"""The page of ``steptool view --html``, and the part of a report that shows episodes. All texts are escaped by ``steptool_env.html``."""

from __future__ import annotations

from collections.abc import Mapping

from steptool_env.html import as_text, episode_body, page
from steptool_env.types import whose
from steptool_env.words import counted

from ..rollouts.evaluate import summarize
from ..trajectory import Trajectory
from ..trajectory.shown import conclusion, ending, labels, shown_steps, total_reward
from .episodes import errors, summary_line

__all__ = ["LEGEND", "episodes_page"]

_STYLE = """
details.episode { border-top: 1px solid var(--line); }
details.episode > summary { display: grid; gap: 0 .8rem; padding: .35rem 0; }
details.episode > summary { grid-template-columns: .8rem 2rem minmax(0, 2fr) minmax(0, 3fr) 6rem 4rem 4.2rem 4.2rem; }
summary { cursor: pointer; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
details.episode > summary::before { content: "▸"; color: var(--faint); }
details.episode[open] > summary::before { content: "▾"; }
summary .number { text-align: right; overflow-wrap: normal; }
summary .reward { text-align: right; }
@media (max-width: 44rem) { details.episode > summary { display: flex; flex-wrap: wrap; } }
"""
LEGEND = "Each square is a token of the action; the deeper its color, the less likely the token was when it was sampled."


def episodes_page(title: str, chosen: Mapping[int, Trajectory]) -> str:
    """Return a page of whole episodes.

    Args:
        title: Heading of the page, for example the name of the file.
        chosen: Episodes by their index in the file; perhaps none.
    """
    about = summary_line(summarize(list(chosen.values()))) if chosen else "No episode."
    body = "\n".join(_episode(index, trajectory) for index, trajectory in chosen.items())
    return page(title, f'<p>{as_text(about)}</p>\n<p class="faint">{LEGEND}</p>\n{body}', _STYLE)


def _episode(index: int, trajectory: Trajectory) -> str:
    """Return an episode, with its index in the file, that opens when its line is clicked."""
    reward = total_reward(trajectory)
    found = errors(trajectory)
    solved = trajectory.success >= 1.0
    cells = (
        ("number faint", str(index)),
        ("task", trajectory.task.id),
        ("faint", ", ".join(labels(trajectory))),
        ("good" if solved else "bad", ending(trajectory)),
        ("", counted(len(trajectory.steps), "call")),
        ("bad" if "model" in map(whose, found) else "faint", counted(len(found), "error")),
        ("reward", "missing" if reward is None else f"{reward:+.3f}"),
    )
    heading = "".join(f'<span class="{name}">{as_text(text)}</span>' for name, text in cells)
    body = episode_body(trajectory.task.instruction, shown_steps(trajectory), conclusion(trajectory), solved=solved)
    return f'<details class="episode" id="episode-{index}"><summary>{heading}</summary>\n{body}\n</details>'
