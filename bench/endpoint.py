"""Where requests go, and what they look like as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from .errors import BenchError
from .workloads import Conversation

Api = Literal["completions", "chat"]


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible endpoint and what every request to it has in common.

    `base_url` is the server's root, with or without `/v1`. `ignore_eos` asks for exactly as many
    tokens as a turn's `output_len`; it is an extension (of vLLM, Octavo, llama.cpp …) and is sent
    only when true. `extra_body` is merged into each request. `timeout_s` is the longest silence
    while a request is open.
    """

    base_url: str
    model: str
    api: Api = "completions"
    api_key: str | None = None
    temperature: float = 0.0
    ignore_eos: bool = True
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 600.0

    @property
    def root(self) -> str:
        """The server's root without a slash at the end."""
        return _root(self.base_url)

    @property
    def url(self) -> str:
        """The URL that requests are sent to."""
        return self.root + ("/v1/chat/completions" if self.api == "chat" else "/v1/completions")

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every request."""
        return {"Content-Type": "application/json", **authorization(self.api_key)}

    def body(self, conversation: Conversation, answers: Sequence[str]) -> dict[str, Any]:
        """The streaming request for the turn after `answers`, one for each turn before it."""
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": conversation.turns[len(answers)].output_len,
            "temperature": self.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.api == "chat":
            body["messages"] = _messages(conversation, answers)
        else:
            body["prompt"] = _transcript(conversation, answers)
        if self.ignore_eos:
            body["ignore_eos"] = True
        return {**body, **self.extra_body}


def authorization(api_key: str | None) -> dict[str, str]:
    """The header that carries the key, if there is one."""
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}


def served_model(base_url: str, api_key: str | None = None) -> str:
    """The first model that the server lists. Raises BenchError if it does not answer or list one.

    Example: `served_model("http://127.0.0.1:8000")`.
    """
    url = _root(base_url) + "/v1/models"
    try:
        answer = httpx.get(url, headers=authorization(api_key), timeout=30, trust_env=False)
        answer.raise_for_status()
        return str(answer.json()["data"][0]["id"])
    except httpx.HTTPError as error:
        raise BenchError(f"{url}: {error or type(error).__name__}; is a server there?") from error
    except (ValueError, LookupError, TypeError) as error:
        raise BenchError(f"{url} lists no model; name one with --model") from error


def _root(base_url: str) -> str:
    return base_url.rstrip("/").removesuffix("/v1").rstrip("/")


def _messages(conversation: Conversation, answers: Sequence[str]) -> list[dict[str, str]]:
    messages = []
    for turn, answer in zip(conversation.turns, answers, strict=False):
        messages.append({"role": "user", "content": turn.text})
        messages.append({"role": "assistant", "content": answer})
    messages.append({"role": "user", "content": conversation.turns[len(answers)].text})
    return messages


def _transcript(conversation: Conversation, answers: Sequence[str]) -> str:
    """The prompt itself if it is the only turn, else everything said so far with speakers."""
    if len(conversation.turns) == 1:
        return conversation.turns[0].text
    speakers = {"user": "User", "assistant": "Assistant"}
    lines = [f"{speakers[m['role']]}: {m['content']}" for m in _messages(conversation, answers)]
    return "\n".join([*lines, "Assistant:"])
