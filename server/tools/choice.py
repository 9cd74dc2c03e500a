"""What a request offers to call, and whether the model may, must or must not."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...engine.errors import BadRequestError

MAX_TOOLS = 128
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
_CHOICES = (
    '`tool_choice` must be "none", "auto", "required", '
    '{"type": "function", "function": {"name": …}} or {"type": "allowed_tools", …}'
)


@dataclass(frozen=True)
class Function:
    """A function that may be called; `parameters` is the JSON schema of an object."""

    name: str
    parameters: Mapping[str, Any]
    description: str = ""
    is_strict: bool = False


@dataclass(frozen=True)
class ToolChoice:
    """What is offered. `mode`: `auto`, or a call is forced: of any (`required`) or the one `named`.

    `tools` are as the client wrote them, for the chat template; `functions` may be called.
    """

    tools: Sequence[dict[str, Any]]
    functions: Sequence[Function]
    mode: Literal["auto", "required", "named"]
    is_parallel: bool

    @property
    def is_forced(self) -> bool:
        """Whether the answer is a call in any case."""
        return self.mode != "auto"


def choose_tools(
    tools: Sequence[dict[str, Any]] | None,
    choice: str | dict[str, Any] | None,
    *,
    is_parallel: bool,
) -> ToolChoice | None:
    """Read `tools` and `tool_choice`. None if nothing may be called.

    Raises BadRequestError for what does not fit together.
    """
    if tools is None:
        if choice not in (None, "none"):
            raise BadRequestError("When using `tool_choice`, `tools` must be set.", "tool_choice")
        return None
    if not 1 <= len(tools) <= MAX_TOOLS:
        raise BadRequestError(
            f"`tools` must have 1 to {MAX_TOOLS} functions, got {len(tools)}.", "tools"
        )
    functions = {function.name: function for function in map(_read_function, tools)}
    if len(functions) < len(tools):
        raise BadRequestError("two of `tools` have the same name.", "tools")
    if choice == "none":
        return None
    mode, names = _read_choice(choice, functions)
    return ToolChoice(tools, [functions[name] for name in names], mode, is_parallel)


def _read_choice(
    choice: str | dict[str, Any] | None, known: Mapping[str, Function]
) -> tuple[Literal["auto", "required", "named"], Sequence[str]]:
    match choice:
        case None | "auto":
            return "auto", list(known)
        case "required":
            return "required", list(known)
        case {"type": "function", "function": {"name": str(name)}}:
            return "named", [_known(name, known)]
        case {"type": "function", "name": str(name)}:  # as the Responses API writes it
            return "named", [_known(name, known)]
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(allowed)}}:
            names = [_known(_name_of(one), known) for one in allowed]
            if names and mode in ("auto", "required"):
                return ("auto" if mode == "auto" else "required"), list(dict.fromkeys(names))
    raise BadRequestError(f"{_CHOICES}; got {choice!r:.200}.", "tool_choice")


def _name_of(tool: object) -> str:
    match tool:
        case {"type": "function", "function": {"name": str(name)}} | {
            "type": "function",
            "name": str(name),
        }:
            return name
    raise BadRequestError(f"not a function in `tool_choice`: {tool!r:.200}.", "tool_choice")


def _known(name: str, known: Mapping[str, Function]) -> str:
    if name not in known:
        raise BadRequestError(
            f"The tool {name!r:.80} in `tool_choice` does not match any of `tools`.", "tool_choice"
        )
    return name


def _read_function(tool: dict[str, Any]) -> Function:
    function = tool.get("function")
    if tool.get("type", "function") != "function" or not isinstance(function, dict):
        raise BadRequestError(
            'each of `tools` must be {"type": "function", "function": {"name": …}}.', "tools"
        )
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadRequestError(
            "a function's name must have 1 to 64 letters, digits, underscores or dashes, "
            f"got {name!r:.80}.",
            "tools",
        )
    if parameters is not None and (
        not isinstance(parameters, dict) or parameters.get("type", "object") != "object"
    ):
        raise BadRequestError(
            f"the parameters of function {name!r} must be a JSON schema of an object.", "tools"
        )
    description = function.get("description")
    return Function(
        name,
        {"type": "object", **parameters} if parameters else _NO_ARGUMENTS,
        description if isinstance(description, str) else "",
        function.get("strict") is True,
    )
