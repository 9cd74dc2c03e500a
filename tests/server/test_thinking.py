"""A server whose template opens a block of reasoning: the parts, the budget, the grammar behind."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

TEMPLATE = """{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is not defined or enable_thinking %}<think>
{% else %}<think>

</think>

{% endif %}{% endif %}"""
QUESTION: list[Any] = [{"role": "user", "content": "Name a colour."}]


@pytest.fixture(scope="module")
def thinking(start_server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    template: Path = tmp_path_factory.mktemp("template") / "thinking.jinja"
    template.write_text(TEMPLATE)
    flags = ["--chat-template", str(template), "--trust-request-chat-template"]
    with start_server("--dtype", "float32", *flags) as server:
        yield server
        server.wait_idle()


@pytest.fixture(scope="module")
def client(thinking) -> Iterator[OpenAI]:
    with OpenAI(base_url=thinking.url + "/v1", api_key="unused", max_retries=0) as client:
        yield client


def ask(client: OpenAI, **options: Any) -> Any:
    # This model was not trained to think, and would end there.
    extra = {"min_tokens": 16, **options.pop("extra", {})}
    settings = {"messages": QUESTION, "temperature": 0, "max_tokens": 40}
    return client.chat.completions.create(**{"model": "", **settings, **options}, extra_body=extra)


def test_a_spent_budget_ends_the_reasoning(client: OpenAI) -> None:
    answer = ask(client, extra={"thinking_token_budget": 6})
    message = answer.choices[0].message
    assert message.reasoning and message.reasoning == message.reasoning_content
    assert message.content
    assert "</think>" not in message.reasoning + message.content
    alone = ask(client, max_tokens=6, extra={"min_tokens": 0}).choices[0].message
    assert alone.reasoning == message.reasoning
    assert not alone.content


def test_reasoning_is_counted_with_its_mark(thinking, client: OpenAI, wait_until) -> None:
    """To the output that ends it: a server that stands still joins others to the mark's last."""
    mark = thinking.post("/tokenize", json={"prompt": "</think>"}).json()["count"]
    extra = {"thinking_token_budget": 6}
    usage = {"include_usage": True, "continuous_usage_stats": True}

    def tokens(one: Any) -> tuple[int, int]:
        return one.completion_tokens, one.completion_tokens_details.reasoning_tokens

    def is_exact() -> bool:
        _, whole = tokens(ask(client, extra=extra).usage)
        chunks = list(ask(client, extra=extra, stream=True, stream_options=usage))
        *chosen, last = chunks
        begun = next(i for i, chunk in enumerate(chosen) if chunk.choices[0].delta.content)
        assert all(total == counted for total, counted in (tokens(c.usage) for c in chunks[:begun]))
        (streamed,) = {tokens(chunk.usage)[1] for chunk in chunks[begun:]}
        assert 6 + mark <= streamed <= tokens(chosen[begun].usage)[0]
        assert 6 + mark <= whole <= tokens(last.usage)[0]
        return whole == streamed == 6 + mark

    wait_until(is_exact, 60)


def test_streamed_parts_join_to_the_whole(client: OpenAI) -> None:
    extra = {"thinking_token_budget": 6}
    whole = ask(client, extra=extra).choices[0].message
    deltas = [chunk.choices[0].delta for chunk in ask(client, extra=extra, stream=True)]
    assert "".join(getattr(d, "reasoning", None) or "" for d in deltas) == whole.reasoning
    assert "".join(d.content or "" for d in deltas) == whole.content
    for delta in deltas:
        assert getattr(delta, "reasoning", None) == getattr(delta, "reasoning_content", None)
        assert not (delta.content and getattr(delta, "reasoning", None))


def test_a_grammar_begins_behind_the_reasoning(client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "c", "schema": schema}}
    answer = ask(client, response_format=form, extra={"thinking_token_budget": 5}, max_tokens=64)
    (choice,) = answer.choices
    assert choice.finish_reason == "stop"
    assert choice.message.reasoning
    assert json.loads(choice.message.content)["colour"] in ("red", "green")


def test_a_forced_call_comes_behind_the_reasoning(client: OpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "paint"}}
    answer = ask(
        client,
        tools=[tool],
        tool_choice="required",
        parallel_tool_calls=False,
        extra={"thinking_token_budget": 5},
        max_tokens=100,
    )
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.reasoning
    assert [call.function.name for call in choice.message.tool_calls] == ["paint"]


@pytest.mark.parametrize(
    "extra",
    [{"reasoning_effort": "none"}, {"chat_template_kwargs": {"enable_thinking": False}}],
)
def test_thinking_can_be_switched_off(extra: dict[str, Any], client: OpenAI) -> None:
    message = ask(client, extra=extra).choices[0].message
    assert message.content
    assert not hasattr(message, "reasoning")


def test_reasoning_can_be_left_out_of_the_answer(client: OpenAI) -> None:
    extra = {"thinking_token_budget": 6}
    whole = ask(client, extra=extra).choices[0].message
    hidden = ask(client, extra={**extra, "include_reasoning": False}).choices[0].message
    assert not hasattr(hidden, "reasoning")
    assert hidden.content == whole.content


def test_a_trusted_request_brings_its_own_template(client: OpenAI) -> None:
    own = "{{ messages[0].content }}{% if add_generation_prompt %}: {{ tone }}{% endif %}"
    extra = {"chat_template": own, "chat_template_kwargs": {"tone": "blue"}, "min_tokens": 1}
    chat = ask(client, max_tokens=8, extra=extra)
    plain = client.completions.create(
        model="", prompt="Name a colour.: blue", temperature=0, max_tokens=8
    )
    assert chat.usage.prompt_tokens == plain.usage.prompt_tokens
    assert chat.choices[0].message.content == plain.choices[0].text


def test_a_template_that_is_no_template_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="chat template is not valid") as caught:
        ask(client, extra={"chat_template": "{% if %}"})
    assert caught.value.param == "chat_template"
