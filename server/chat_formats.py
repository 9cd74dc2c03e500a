"""How the served model writes calls and reasoning, by settings or by its chat template."""

from dataclasses import dataclass

from .reasoning import ReasoningFormat, choose_reasoning
from .tools.formats import TOOL_FORMATS, ToolFormat, detect_format


@dataclass(frozen=True)
class ChatFormats:
    """How the served model writes calls and reasoning; None where no parser is wanted."""

    tools: ToolFormat | None
    reasoning: ReasoningFormat | None

    @classmethod
    def choose(
        cls, tool_parser: str, reasoning_parser: str, template: str, *, shows_tools: bool
    ) -> "ChatFormats":
        """Those of the names; `auto` tells them by the chat template, `none` is none."""
        tools = None
        if tool_parser == "auto":
            tools = detect_format(template, shows_tools=shows_tools)
        elif tool_parser != "none":
            tools = TOOL_FORMATS[tool_parser]
        return cls(tools, choose_reasoning(reasoning_parser, template))

    def describe(self) -> str:
        """One line for the log."""
        tools = "none" if self.tools is None else self.tools.name
        reasoning = "none" if self.reasoning is None else self.reasoning.start
        return f"tool calls {tools}, reasoning {reasoning}"
