"""Several choices, several prompts, and seeds, through the official client."""

from collections import defaultdict
from itertools import groupby

from openai import OpenAI

from ..conftest import in_more_pieces_than

PROMPT = "My favourite place is"
MESSAGES = [{"role": "user", "content": "Tell me about a place you like."}]
SAMPLED = {"max_tokens": 4, "temperature": 1.0, "seed": 1234, "extra_body": {"ignore_eos": True}}


def texts(client: OpenAI, model: str, **options) -> list[str]:
    settings = {"prompt": PROMPT, **SAMPLED, **options}
    answer = client.completions.create(model=model, **settings)
    assert [choice.index for choice in answer.choices] == list(range(len(answer.choices)))
    return [choice.text for choice in answer.choices]


def test_the_same_seed_gives_the_same_text_and_another_seed_another(
    client: OpenAI, model: str
) -> None:
    assert texts(client, model) == texts(client, model)
    assert texts(client, model, seed=77) != texts(client, model)


def test_without_a_seed_two_answers_differ(client: OpenAI, model: str) -> None:
    unseeded = {"temperature": 2.0, "seed": None}
    assert texts(client, model, **unseeded) != texts(client, model, **unseeded)


def test_choice_i_of_n_draws_with_seed_plus_i(client: OpenAI, model: str) -> None:
    three = texts(client, model, n=3)
    alone = [texts(client, model, seed=SAMPLED["seed"] + i)[0] for i in range(3)]
    assert three == alone
    assert len(set(three)) == 3


def test_three_streamed_completions_interleave_and_each_equals_its_unstreamed_one(
    client: OpenAI, model: str
) -> None:
    whole = texts(client, model, n=3)

    def num_turns() -> int:
        """How often the stream goes over to another choice, and at the beginning to the first."""
        stream = client.completions.create(model=model, prompt=PROMPT, n=3, stream=True, **SAMPLED)
        streamed: dict[int, str] = defaultdict(str)
        ends: dict[int, list[str | None]] = defaultdict(list)
        order = []
        for chunk in stream:
            (choice,) = chunk.choices
            streamed[choice.index] += choice.text
            ends[choice.index].append(choice.finish_reason)
            order.append(choice.index)
        assert [streamed[i] for i in range(3)] == whole
        for reasons in ends.values():
            assert reasons == [None] * (len(reasons) - 1) + ["length"]
        return len(list(groupby(order)))

    in_more_pieces_than(3, num_turns)


def test_three_streamed_chats_have_a_role_each_and_equal_their_unstreamed_ones(
    client: OpenAI, model: str
) -> None:
    ask = {"model": model, "messages": MESSAGES, "n": 3, **SAMPLED}
    whole = client.chat.completions.create(**ask)
    streamed: dict[int, str] = defaultdict(str)
    roles = []
    ended = []
    for chunk in client.chat.completions.create(**ask, stream=True):
        (choice,) = chunk.choices
        streamed[choice.index] += choice.delta.content or ""
        if choice.delta.role:
            roles.append(choice.index)
        if choice.finish_reason:
            ended.append(choice.index)
    assert [streamed[i] for i in range(3)] == [c.message.content for c in whole.choices]
    assert roles == [0, 1, 2]
    assert sorted(ended) == [0, 1, 2]


def test_usage_counts_the_prompt_once_and_the_tokens_of_every_choice(
    client: OpenAI, model: str
) -> None:
    ask = {"model": model, "messages": MESSAGES, **SAMPLED}
    one = client.chat.completions.create(**ask, n=1).usage
    three = client.chat.completions.create(**ask, n=3).usage
    assert one is not None
    assert three is not None
    assert three.prompt_tokens == one.prompt_tokens
    assert three.completion_tokens == 3 * SAMPLED["max_tokens"]
    assert three.total_tokens == three.prompt_tokens + three.completion_tokens


def test_choices_of_a_batch_are_numbered_prompt_by_prompt(client: OpenAI, model: str) -> None:
    prompts = [PROMPT, "The recipe begins with"]
    batch = texts(client, model, prompt=prompts, n=2)
    assert batch == [
        text for prompt in prompts for text in texts(client, model, prompt=prompt, n=2)
    ]


def test_token_ids_as_prompts_give_what_their_text_gives(
    server, client: OpenAI, model: str
) -> None:
    prompts = [PROMPT, "The recipe begins with"]
    ids = [server.post("/tokenize", json={"prompt": text}).json()["tokens"] for text in prompts]
    assert texts(client, model, prompt=ids[0]) == texts(client, model, prompt=prompts[0])
    assert texts(client, model, prompt=ids) == texts(client, model, prompt=prompts)


def test_usage_of_a_batch_sums_over_its_prompts(client: OpenAI, model: str) -> None:
    ids = [[10, 20, 30], [40, 50]]
    usage = client.completions.create(model=model, prompt=ids, **SAMPLED).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (5, 2 * SAMPLED["max_tokens"])


def test_a_streamed_batch_gives_every_index_to_its_end(client: OpenAI, model: str) -> None:
    prompts = [PROMPT, "The recipe begins with"]
    stream = client.completions.create(model=model, prompt=prompts, n=2, stream=True, **SAMPLED)
    streamed: dict[int, str] = defaultdict(str)
    ended = []
    for chunk in stream:
        (choice,) = chunk.choices
        streamed[choice.index] += choice.text
        if choice.finish_reason:
            ended.append(choice.index)
    assert sorted(ended) == [0, 1, 2, 3]
    assert [streamed[i] for i in range(4)] == texts(client, model, prompt=prompts, n=2)
