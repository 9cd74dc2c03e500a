"""How models write calls of functions: one format a family, told by the chat template."""

from dataclasses import dataclass

from .parser import Frame


@dataclass(frozen=True)
class ToolFormat:
    """A way to write calls: `frame` finds them in what a model says of itself; the rest is how a
    call is written when it is forced, as `begin`, then calls with `separator` between, then `end`.

    `before_arguments` has the function's name for `%s`. `marks` may be special tokens.
    """

    name: str
    frame: Frame
    before_arguments: str = '{"name": "%s", "arguments": '
    after_arguments: str = "}"
    begin: str = ""
    separator: str = ", "
    end: str = ""
    marks: tuple[str, ...] = ()


_HERMES = ToolFormat(
    "hermes",
    Frame("<tool_call>", "</tool_call>"),
    before_arguments='<tool_call>\n{"name": "%s", "arguments": ',
    after_arguments="}\n</tool_call>",
    separator="\n",
    marks=("<tool_call>", "</tool_call>"),
)
_LLAMA3_JSON = ToolFormat(
    "llama3_json",
    Frame(opens_optionally="<|python_tag|>"),
    before_arguments='{"name": "%s", "parameters": ',
    separator="; ",
    marks=("<|python_tag|>",),
)
_PYTHONIC = ToolFormat(
    "pythonic",
    Frame(opens_optionally="<|python_tag|>", is_pythonic=True),
    begin="[",
    end="]",
    marks=("<|python_tag|>",),
)
_MISTRAL = ToolFormat(
    "mistral",
    Frame("[TOOL_CALLS]", is_named=True),
    begin="[TOOL_CALLS][",
    end="]",
    marks=("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"),
)
_MISTRAL_NAMED = ToolFormat(
    "mistral_named",
    Frame("[TOOL_CALLS]", is_named=True),
    before_arguments="[TOOL_CALLS]%s[ARGS]",
    after_arguments="",
    separator="",
    marks=("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"),
)
_JSON = ToolFormat("json", Frame(), begin="[", end="]")

TOOL_FORMATS = {
    one.name: one for one in (_HERMES, _LLAMA3_JSON, _PYTHONIC, _MISTRAL, _MISTRAL_NAMED, _JSON)
}


def detect_format(template: str, *, shows_tools: bool) -> ToolFormat:
    """The format that a chat template teaches.

    Hermes for one that shows no tools: our own words for it then teach that.
    """
    if not shows_tools or "<tool_call>" in template:
        return _HERMES
    if "[ARGS]" in template:
        return _MISTRAL_NAMED
    if "[TOOL_CALLS]" in template:
        return _MISTRAL
    if "func_name1(params_name1=" in template or "pythonic" in template:
        return _PYTHONIC
    if "python_tag" in template or '"parameters":' in template:
        return _LLAMA3_JSON
    return _JSON
