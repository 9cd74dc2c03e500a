"""Log-probabilities in the two formats of the API, whole and streamed."""

import pytest
from openai import OpenAI

from ..conftest import in_more_pieces_than

PROMPT = "One, two, three,"
CHINESE = "北京是中国的首都。"  # continued with characters of one token and of several
EMOJI = "😀 😃 😄 😁 😀 😃 😄 😁 😀 😃 😄"  # continued with characters of several tokens
MESSAGES = [{"role": "user", "content": "Count to five."}]
GREEDY = {"max_tokens": 6, "temperature": 0, "extra_body": {"ignore_eos": True}}


def completion(client: OpenAI, model: str, **options):
    return client.completions.create(model=model, **{"prompt": PROMPT, **GREEDY, **options})


def chat(client: OpenAI, model: str, **options):
    settings = {"messages": MESSAGES, **GREEDY, "logprobs": True, **options}
    return client.chat.completions.create(model=model, **settings)


def test_a_completions_logprobs_are_parallel_lists_over_its_tokens(
    client: OpenAI, model: str
) -> None:
    (choice,) = completion(client, model, logprobs=3).choices
    found = choice.logprobs
    assert [len(found.tokens), len(found.token_logprobs)] == [6, 6]
    assert [len(found.text_offset), len(found.top_logprobs)] == [6, 6]
    assert "".join(found.tokens) == choice.text
    for token, logprob, offset, top in zip(
        found.tokens, found.token_logprobs, found.text_offset, found.top_logprobs, strict=True
    ):
        assert choice.text[offset : offset + len(token)] == token
        assert len(top) == 3
        # Greedy decoding takes the likeliest token.
        assert logprob == top[token] == max(top.values()) <= 0.0


def test_a_sampled_token_outside_the_top_is_listed_as_well(
    server, client: OpenAI, model: str
) -> None:
    likeliest = completion(client, model, logprobs=1).choices[0].logprobs.tokens[0]
    (token_id,) = server.post("/tokenize", json={"prompt": likeliest}).json()["tokens"]
    avoiding = {"logit_bias": {str(token_id): -100}}
    found = completion(client, model, logprobs=1, max_tokens=1, **avoiding).choices[0].logprobs
    assert set(found.top_logprobs[0]) == {likeliest, found.tokens[0]}
    # Log-probabilities are the model's own: the bias does not show in them.
    assert found.top_logprobs[0][likeliest] > found.token_logprobs[0]


def test_logprobs_0_lists_only_the_token_itself(client: OpenAI, model: str) -> None:
    found = completion(client, model, logprobs=0).choices[0].logprobs
    for token, logprob, top in zip(
        found.tokens, found.token_logprobs, found.top_logprobs, strict=True
    ):
        assert top == {token: logprob}


def test_streamed_completion_logprobs_join_to_the_unstreamed_ones(
    client: OpenAI, model: str
) -> None:
    whole = completion(client, model, logprobs=2).choices[0].logprobs

    def num_parts() -> int:
        parts = [c.choices[0].logprobs for c in completion(client, model, logprobs=2, stream=True)]
        for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
            assert [x for part in parts for x in getattr(part, name)] == getattr(whole, name), name
        return len(parts)

    in_more_pieces_than(1, num_parts)


@pytest.mark.parametrize("stream", [False, True])
def test_text_offsets_stay_right_after_characters_of_several_tokens(
    stream: bool, client: OpenAI, model: str
) -> None:
    answer = completion(client, model, prompt=CHINESE, logprobs=0, max_tokens=8, stream=stream)
    choices = [chunk.choices[0] for chunk in answer] if stream else answer.choices
    text = "".join(choice.text for choice in choices)
    pairs = [
        pair
        for choice in choices
        for pair in zip(choice.logprobs.tokens, choice.logprobs.text_offset, strict=True)
    ]
    in_parts = ["\ufffd" in token for token, _ in pairs]
    assert True in in_parts
    assert False in in_parts[in_parts.index(True) :]
    for token, offset in pairs:
        if "\ufffd" not in token:
            assert text[offset : offset + len(token)] == token


@pytest.mark.parametrize("count", [0, 2, 20])
def test_a_chats_logprobs_have_exactly_the_alternatives_asked_for(
    count: int, client: OpenAI, model: str
) -> None:
    (choice,) = chat(client, model, top_logprobs=count).choices
    entries = choice.logprobs.content
    assert "".join(entry.token for entry in entries) == choice.message.content
    assert len(entries) == 6
    for entry in entries:
        assert bytes(entry.bytes).decode() == entry.token
        assert entry.logprob <= 0.0
        values = [top.logprob for top in entry.top_logprobs]
        assert len(values) == count
        assert values == sorted(values, reverse=True)
        if count:
            best = entry.top_logprobs[0]
            assert (best.token, best.logprob, best.bytes) == (
                entry.token,
                entry.logprob,
                entry.bytes,
            )


def test_streamed_chat_logprobs_join_to_the_unstreamed_ones(client: OpenAI, model: str) -> None:
    whole = chat(client, model, top_logprobs=2).choices[0].logprobs.content
    first, *rest = chat(client, model, top_logprobs=2, stream=True)
    assert first.choices[0].logprobs is None  # the chunk that brings the role
    parts = [entry for chunk in rest for entry in chunk.choices[0].logprobs.content]
    assert [part.model_dump() for part in parts] == [entry.model_dump() for entry in whole]


def test_bytes_of_a_chats_tokens_join_to_characters_that_no_token_holds_alone(
    client: OpenAI, model: str
) -> None:
    messages = [{"role": "user", "content": EMOJI}, {"role": "assistant", "content": EMOJI}]
    unfinished = {"continue_final_message": True, "add_generation_prompt": False}
    answer = chat(client, model, messages=messages, max_tokens=16, extra_body=unfinished)
    (choice,) = answer.choices
    entries = choice.logprobs.content
    assert any("\ufffd" in entry.token for entry in entries), "no character of several tokens"
    spelled = b"".join(bytes(entry.bytes) for entry in entries).removesuffix(b"<|im_end|>")
    assert spelled.decode("utf-8", "replace") == choice.message.content


def test_without_logprobs_none_are_sent(client: OpenAI, model: str) -> None:
    assert completion(client, model).choices[0].logprobs is None
    assert chat(client, model, logprobs=False).choices[0].logprobs is None
