"""``WrappedToolkit``: a toolkit in front of another one, for what changes how calls are answered and not which tools there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from steptool_env.tools.tool import Tool
from steptool_env.tools.toolkit import Toolkit
from steptool_env.types import ToolCall, ToolResult

__all__ = ["WrappedToolkit"]


class WrappedToolkit(Toolkit):
    """Shows the tools and the state of another toolkit, and passes calls on.

    Args:
        inner: The toolkit behind it.
    """

    def __init__(self, inner: Toolkit) -> None:
        self.inner = inner
        self.made = inner
        """The toolkit that the suite made, which its grading looks at; ``inner`` may be another wrapper around it."""
        self.max_result_chars = inner.max_result_chars

    @property
    def state(self) -> Any:
        """The inner toolkit's own."""
        return self.inner.state

    def __getitem__(self, name: str) -> Tool:
        return self.inner[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.inner)

    def __len__(self) -> int:
        return len(self.inner)

    @property
    def schemas(self) -> str:
        return self.inner.schemas

    @property
    def parameters(self) -> Any:
        return self.inner.parameters

    def answer(self, call: ToolCall) -> ToolResult:
        return self.inner.execute(call)

    def may_wait(self, name: str) -> bool:
        return self.inner.may_wait(name)

    def snapshot(self) -> Any:
        return self.inner.snapshot()

    def restore(self, state: Any) -> None:
        self.inner.restore(state)
