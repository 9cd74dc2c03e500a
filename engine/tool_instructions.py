"""Words for models whose chat template does not know of functions: in the Hermes frame."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Messages = list[dict[str, Any]]


def explain_tools(messages: Messages, tools: Sequence[Mapping[str, Any]]) -> Messages:
    """The conversation with the functions explained at its beginning."""
    listed = "\n".join(json.dumps(tool.get("function"), ensure_ascii=False) for tool in tools)
    text = (
        "You can call these functions, given as JSON with the schema of their parameters:\n"
        f"<tools>\n{listed}\n</tools>\n"
        "To call one, answer with its name and arguments in this form and nothing else:\n"
        '<tool_call>\n{"name": "the function", "arguments": {"a parameter": "its value"}}\n'
        "</tool_call>"
    )
    if messages and messages[0].get("role") == "system":
        first = {**messages[0], "content": f"{messages[0].get('content') or ''}\n\n{text}".strip()}
        return [first, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def spell_out_calls(messages: Messages) -> Messages:
    """The conversation with calls and results as text, which is all such a template prints."""
    return [_spell_out(message) for message in messages]


def _spell_out(message: dict[str, Any]) -> dict[str, Any]:
    if message.get("role") == "tool":
        text = f"<tool_response>\n{message.get('content') or ''}\n</tool_response>"
        return {"role": "user", "content": text}
    calls = message.get("tool_calls")
    if not calls:
        return message
    texts = [
        "<tool_call>\n"
        + json.dumps(
            {key: call["function"].get(key) for key in ("name", "arguments")}, ensure_ascii=False
        )
        + "\n</tool_call>"
        for call in calls
    ]
    content = message.get("content") or ""
    spelled = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**spelled, "content": "\n".join([content, *texts] if content else texts)}
