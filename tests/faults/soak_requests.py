"""The requests of a soak: request `number` of a seed is always the same."""

import random
from dataclasses import dataclass
from typing import Any

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
CHOICES = ["alpha", "beta", "gamma"]


@dataclass(frozen=True)
class SoakRequest:
    """A request and what has to come of it.

    `status`: of the answer. `leaves_after`: events (of a stream) or milliseconds (else) after which
    the client is gone; None for one who stays. `is_witness`: its text is the same at any time.
    """

    path: str
    body: dict[str, Any] | bytes
    status: int = 200
    leaves_after: int | None = None
    is_witness: bool = False

    @property
    def is_stream(self) -> bool:
        """Whether server-sent events come."""
        return isinstance(self.body, dict) and bool(self.body.get("stream"))

    @property
    def num_choices(self) -> int:
        """Choices that the answer has."""
        return int(self.body.get("n", 1)) if isinstance(self.body, dict) else 0


def make_request(number: int, seed: int) -> SoakRequest:
    """Draw a request."""
    rng = random.Random(f"{seed}/{number}")
    kind = rng.random()
    if kind < 0.07:
        return _bad(rng)
    if kind < 0.12:
        return _witness(rng)
    body: dict[str, Any] = {
        "max_tokens": rng.choice((1, 2, 8, 16, 40)),
        "seed": rng.getrandbits(32),
    }
    body["temperature"] = rng.choice((0, 0.7, 1.0, 1.5))
    path = rng.choice((CHAT, COMPLETIONS))
    text = rng.choice(("The same beginning of many. ", "")) * rng.randint(0, 12)
    text += f"No. {rng.getrandbits(20)}"
    if path == CHAT:
        body["messages"] = [{"role": "user", "content": text}]
    else:
        body["prompt"] = text
    if rng.random() < 0.5:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    _add_extras(body, path, rng)
    leaves_after = None
    if rng.random() < 0.12:
        body |= {"max_tokens": 400, "ignore_eos": True}
        body.pop("structured_outputs", None)
        leaves_after = rng.randint(1, 30)
    return SoakRequest(path, body, leaves_after=leaves_after)


def _add_extras(body: dict[str, Any], path: str, rng: random.Random) -> None:
    extra = rng.random()
    if extra < 0.1:
        body |= {"n": rng.randint(2, 4), "temperature": 0.9}  # greedy choices would be one
    elif extra < 0.2:
        body["stop"] = rng.sample(["a", "e", "\n", "xy", "ö"], rng.randint(1, 3))
    elif extra < 0.3:
        body |= {"logprobs": True, "top_logprobs": 3} if path == CHAT else {"logprobs": 3}
    elif extra < 0.35:
        body["structured_outputs"] = {"choice": CHOICES}
        body["max_tokens"] = 16
    elif extra < 0.4 and path == COMPLETIONS and "stream" not in body:
        body |= {"echo": True, "prompt_logprobs": 1}
    elif extra < 0.45:
        body |= {"presence_penalty": 0.4, "frequency_penalty": -0.3, "repetition_penalty": 1.1}
    elif extra < 0.5:
        body |= {"top_k": 7, "top_p": 0.9, "min_p": 0.02, "logit_bias": {"65": 3.0}}


def _witness(rng: random.Random) -> SoakRequest:
    which = rng.randrange(4)
    body = {
        "prompt": f"Witness {which} says: " + "all as before. " * which,
        "max_tokens": 24,
        "temperature": 0.0 if which % 2 else 1.0,
        "seed": which,
        "stream": rng.random() < 0.5,
    }
    return SoakRequest(COMPLETIONS, body, is_witness=True)


def _bad(rng: random.Random) -> SoakRequest:
    path = rng.choice((CHAT, COMPLETIONS))
    bodies: list[tuple[dict[str, Any] | bytes, int]] = [
        (b"{", 400),
        (b"", 400),
        (b"\xff\xfe", 400),
        (b"[" * 500, 400),
        ({"prompt": "x", "messages": [], "max_tokens": -1}, 400),
        ({"prompt": 7, "messages": 7}, 400),
        (
            {"prompt": "x", "messages": [{"role": "user", "content": "x"}], "temperature": "hot"},
            400,
        ),
        ({"prompt": "x" * 9000, "messages": [{"role": "user", "content": "x" * 9000}]}, 400),
        ({"prompt": "x", "messages": [{"role": "user", "content": "x"}], "model": "none"}, 404),
        ({"prompt": [[]], "messages": [[]]}, 400),
    ]
    body, status = rng.choice(bodies)
    return SoakRequest(path, body, status=status)
