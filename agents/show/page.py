"""The page of ``steptool view --html``: episodes as one HTML file, without scripts and without anything to load.

Every text comes from a model, a tool or a file, so all of it is escaped, and the page does not let the browser load or run anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

from steptool_env.rendering import printable
from steptool_env.types import Malformed, whose

from ..rollouts.evaluate import summarize
from ..trajectory import Step, Trajectory
from .episodes import call_text, conclusion, ending, errors, executed, kind_of_error, labels, step_earned, summary_line, total_reward
from .words import counted

__all__ = ["page"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #ffffff; --faint: #667; --line: #d8dade; --box: #f4f5f7; --good: #17722f; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6ea; --paper: #17191d; --faint: #9aa0ab; --line: #383c44; --box: #21242a; --good: #6fcf86; --bad: #ff8a80; }
}
body { margin: 2rem auto; max-width: 64rem; padding: 0 1rem; font: 16px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.1rem; overflow-wrap: anywhere; }
details { border-top: 1px solid var(--line); }
summary { display: grid; grid-template-columns: .8rem 2rem minmax(0, 2fr) minmax(0, 3fr) 6rem 4rem 4.2rem 4.2rem; gap: 0 .8rem; padding: .35rem 0; }
summary { cursor: pointer; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
summary::before { content: "▸"; color: var(--faint); }
details[open] > summary::before { content: "▾"; }
summary .number { text-align: right; overflow-wrap: normal; }
summary .reward { text-align: right; }
@media (max-width: 44rem) { summary { display: flex; flex-wrap: wrap; } }
.faint, .earned { color: var(--faint); }
.earned { margin: .2rem 0 0; font-size: .85rem; }
.good { color: var(--good); }
.bad { color: var(--bad); }
.asked { font-weight: 600; }
.asked, pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
ol { margin: .8rem 0; padding-left: 2.5rem; }
li { margin-bottom: 1rem; }
pre { font: 13px/1.5 ui-monospace, monospace; max-height: 24rem; overflow: auto; padding: .2rem .6rem; }
pre.call { background: var(--box); border-left: 3px solid var(--faint); }
pre.bad { border-color: var(--bad); }
.tokens { line-height: 0; padding: .2rem 0 0 .6rem; font-size: .85rem; }
.tokens i { display: inline-block; width: .7rem; height: .7rem; border: 1px solid var(--line); background: rgb(217 119 6 / var(--doubt)); }
.end { font-weight: 600; }
"""


def page(title: str, chosen: Mapping[int, Trajectory]) -> str:
    """Return the page as HTML.

    Args:
        title: Heading of the page, for example the name of the file.
        chosen: Episodes by their index in the file; perhaps none.
    """
    about = summary_line(summarize(list(chosen.values()))) if chosen else "No episode."
    episodes = "\n".join(_episode(index, trajectory) for index, trajectory in chosen.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{_text(title)}</h1>
<p>{_text(about)}</p>
<p class="faint">Squares are the tokens of an action: the more orange, the less probable the token was when it was sampled.</p>
{episodes}
</body>
</html>
"""


def _episode(index: int, trajectory: Trajectory) -> str:
    reward = total_reward(trajectory)
    found = errors(trajectory)
    solved = "good" if trajectory.success >= 1.0 else "bad"
    cells = (
        ("number faint", str(index)),
        ("task", trajectory.task.id),
        ("faint", ", ".join(labels(trajectory))),
        (solved, ending(trajectory)),
        ("", counted(len(trajectory.steps), "call")),
        ("bad" if "model" in map(whose, found) else "faint", counted(len(found), "error")),
        ("reward", "missing" if reward is None else f"{reward:+.3f}"),
    )
    heading = "".join(f'<span class="{name}">{_text(text)}</span>' for name, text in cells)
    total, steps = 0.0, []
    for step in trajectory.steps:
        total += step.reward
        steps.append(_step(step, step_earned(step, total, trajectory)))
    return f"""<details id="episode-{index}"><summary>{heading}</summary>
<p class="asked">{_text(trajectory.task.instruction)}</p>
<ol start="0">
{"".join(steps)}</ol>
<p class="end {solved}">{_text(conclusion(trajectory).plain)}</p>
</details>"""


def _step(step: Step, earned: str) -> str:
    result = step.transition.result
    malformed = ' <span class="bad">[no call]</span>' if isinstance(step.generation.action, Malformed) else ""
    call = f'<pre class="call{" bad" if malformed else ""}">{_text(call_text(step))}{malformed}</pre>'
    kind = f"<b>{_text(kind_of_error(result.error))}:</b> " if result.error else ""
    answer = f'<pre class="{"bad" if result.error else "answer"}">{kind}{_text(result.content)}</pre>'
    changed = "".join(f"<pre>{_text(note)}</pre>" for note in executed(step))
    return f'<li>{call}{_tokens(step)}{changed}{answer}<p class="earned">{_text(earned)}</p></li>\n'


def _tokens(step: Step) -> str:
    """Return one square per token of the action, shaded by how improbable it was; nothing for policies that sample no tokens."""
    generation = step.generation
    if not generation.token_ids:
        return ""
    chances = [math.exp(min(logprob, 0.0)) for logprob in generation.logprobs]
    squares = (f'<i style="--doubt:{1 - p:.2f}" title="token {token}: {p:.3f}"></i>' for token, p in zip(generation.token_ids, chances, strict=True))
    return f'<div class="tokens">{"".join(squares)}</div>'


def _text(text: str) -> str:
    return escape(printable(text))
