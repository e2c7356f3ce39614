"""What people look at in a browser or a notebook: an episode step by step, and whole pages, without scripts and without anything to load.

Texts come from models, tools and files. All are escaped here, and a page forbids the browser to load or run anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from steptool_env.rendering import printable
from steptool_env.types import Action, Malformed, ToolResult
from steptool_env.words import action_text, counted, earned, kind_of_error, verdict

if TYPE_CHECKING:  # which shows itself by this file
    from steptool_env.tasks.base import Episode

__all__ = ["PAGE_STYLE", "STYLE", "ShownStep", "as_text", "environment_html", "episode_body", "fragment", "page", "shown_step"]

STYLE = """
.steptool { --good: #23913f; --bad: #d8423a; --faint: #7d828c; --line: rgb(128 128 128 / .35); --box: rgb(128 128 128 / .12); }
.steptool .faint, .steptool .earned { color: var(--faint); }
.steptool .earned { margin: .2rem 0 0; font-size: .85rem; }
.steptool .good { color: var(--good); }
.steptool .bad { color: var(--bad); }
.steptool .asked { font-weight: 600; }
.steptool .asked, .steptool pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
.steptool ol { margin: .8rem 0; padding-left: 2.2rem; }
.steptool li { margin-bottom: 1rem; }
.steptool pre { font: 13px/1.5 ui-monospace, monospace; max-height: 24rem; overflow: auto; padding: .2rem .6rem; background: none; color: inherit; }
.steptool pre.call { background: var(--box); border-left: 3px solid var(--faint); }
.steptool pre.bad { border-color: var(--bad); color: var(--bad); }
.steptool .tokens { line-height: 0; padding: .2rem 0 0 .6rem; font-size: .85rem; }
.steptool .tokens i { display: inline-block; width: .7rem; height: .7rem; border: 1px solid var(--line); background: rgb(217 119 6 / var(--doubt)); }
.steptool .end { font-weight: 600; }
"""
"""How episodes look, on pages and in notebooks: everything is within the class ``steptool``. The colors are readable on light and on dark, since a
notebook need not follow the system."""

PAGE_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #ffffff; }
.steptool { --good: #17722f; --bad: #b3261e; --faint: #667; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6ea; --paper: #17191d; }
  .steptool { --good: #6fcf86; --bad: #ff8a80; --faint: #9aa0ab; }
}
body { margin: 2rem auto; max-width: 64rem; padding: 0 1rem; font: 16px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.3rem; overflow-wrap: anywhere; }
"""


class ShownStep(NamedTuple):
    """A step as it is shown; every text is still as it came."""

    call: str
    """What the policy wrote, or the call as JSON."""
    result: str
    error: str = ""
    """The kind of error in words; ``""`` for none."""
    no_call: bool = False
    """Whether the text held no call."""
    notes: tuple[str, ...] = ()
    """What there is to say about the call, a line each."""
    earned: str = ""
    """What the step earned, in words."""
    tokens: tuple[tuple[int, float], ...] = ()
    """Of every token of the action, its id and the probability with which it was sampled."""


def shown_step(action: Action, result: ToolResult, earned: str = "") -> ShownStep:
    """Return a step of which no more is known than the action and its result."""
    error = kind_of_error(result.error) if result.error else ""
    return ShownStep(action_text(action), result.content, error, isinstance(action, Malformed), earned=earned)


def as_text(text: str) -> str:
    """Return a text as HTML that shows exactly this text."""
    return escape(printable(text))


def episode_body(instruction: str, steps: Sequence[ShownStep], end: str = "", *, solved: bool = False, most: int | None = None) -> str:
    """Return an episode: the request, every step, and how it ended.

    Args:
        instruction: What the agent was asked; ``""`` leaves it out.
        steps: From the first to the last.
        end: How it ended, in words; ``""`` if it has not.
        solved: Whether that was well.
        most: Most steps to show, more than 3; of a longer episode its beginning and its last steps. None: all.
    """
    shown = list(enumerate(steps))
    if most is not None and len(shown) > most:
        last = max(1, most // 3)
        left_out = f'<li class="faint">{counted(len(shown) - most, "step")} left out</li>\n'
        items = [_item(number, step) for number, step in shown[: most - last]] + [left_out] + [_item(number, step) for number, step in shown[-last:]]
    else:
        items = [_item(number, step) for number, step in shown]
    closing = f'<p class="end {"good" if solved else "bad"}">{as_text(end)}</p>' if end else ""
    asked = f'<p class="asked">{as_text(instruction)}</p>\n' if instruction else ""
    return f'{asked}<ol start="0">\n{"".join(items)}</ol>\n{closing}'


def _item(number: int, step: ShownStep) -> str:
    mark = ' <span class="bad">[no call]</span>' if step.no_call else ""
    call = f'<pre class="call{" bad" if step.no_call else ""}">{as_text(step.call)}{mark}</pre>'
    notes = "".join(f"<pre>{as_text(note)}</pre>" for note in step.notes)
    kind = f"<b>{as_text(step.error)}:</b> " if step.error else ""
    result = f'<pre class="{"bad" if step.error else "answer"}">{kind}{as_text(step.result)}</pre>'
    earned = f'<p class="earned">{as_text(step.earned)}</p>' if step.earned else ""
    return f'<li value="{number}">{call}{_squares(step.tokens)}{notes}{result}{earned}</li>\n'


def _squares(tokens: Iterable[tuple[int, float]]) -> str:
    """Return one square per token, shaded by how improbable it was; nothing where there are none."""
    squares = "".join(f'<i style="--doubt:{1 - chance:.2f}" title="token {token}: {chance:.3f}"></i>' for token, chance in tokens)
    return f'<div class="tokens">{squares}</div>' if squares else ""


def fragment(title: str, body: str) -> str:
    """Return what a notebook shows for an object: a title and HTML below it, with their style."""
    return f'<div class="steptool"><style>{STYLE}</style>\n<p class="faint">{as_text(title)}</p>\n{body}</div>'


def environment_html(about: str, episode: Episode, rewards: Sequence[float], max_steps: int | None) -> str:
    """Return what a notebook shows for an environment in an episode.

    Args:
        about: The environment in words.
        episode: The episode so far.
        rewards: (T,) the reward of every step so far.
        max_steps: The budget, if it overrides the task's.
    """
    steps, total = [], 0.0
    for transition, reward in zip(episode, rewards, strict=True):
        total += reward
        steps.append(shown_step(transition.action, transition.result, earned(reward, {}, total, transition.progress)))
    task, outcome = episode.task, episode[-1].outcome if len(episode) else None
    end = verdict(outcome, len(episode), total) if outcome is not None else ""
    left = f"{(max_steps or task.max_steps) - len(episode)} of {counted(max_steps or task.max_steps, 'call')} left"
    offered = ", ".join(episode.toolkit)
    tools = f'<p class="faint">{as_text(f"{task.id}; {left}; tools: {offered}")}</p>'
    return fragment(about, tools + episode_body(task.instruction, steps, end, solved=outcome is not None and outcome.solved >= 1.0, most=60))


def page(title: str, body: str, style: str = "") -> str:
    """Return a whole page.

    Args:
        title: Its heading, as text.
        body: HTML.
        style: CSS in addition to ``STYLE`` and ``PAGE_STYLE``.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{as_text(title)}</title>
<style>{STYLE}{PAGE_STYLE}{style}</style>
</head>
<body class="steptool">
<h1>{as_text(title)}</h1>
{body}
</body>
</html>
"""
