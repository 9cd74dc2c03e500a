"""`LLM.chat`: conversations through the model's own template."""

from pathlib import Path

import pytest

from octavo import LLM, SamplingParams
from octavo.engine.errors import BadRequestError

GREEDY = SamplingParams(temperature=0.0, max_tokens=12)
QUESTION = [{"role": "user", "content": "What is 2 + 2? Answer with a number."}]


@pytest.fixture(scope="module")
def llm(smollm2_gguf: Path) -> LLM:
    return LLM(str(smollm2_gguf), dtype="float32", device="cpu", kv_cache_memory="256MiB")


def test_a_conversation_is_what_its_rendered_text_is(llm: LLM) -> None:
    text = (
        "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ]
    ((chat,),) = llm.chat(messages, GREEDY, use_progress_bar=False)
    ((plain,),) = llm.generate(text, GREEDY, use_progress_bar=False)
    assert (chat.text, chat.num_prompt_tokens) == (plain.text, plain.num_prompt_tokens)


def test_tools_reach_a_model_whose_template_does_not_know_them(llm: LLM) -> None:
    tool = {"type": "function", "function": {"name": "look_up"}}
    ((plain,),) = llm.chat(QUESTION, GREEDY, use_progress_bar=False)
    ((shown,),) = llm.chat(QUESTION, GREEDY, tools=[tool], use_progress_bar=False)
    assert shown.num_prompt_tokens > plain.num_prompt_tokens + 20


def test_a_template_may_be_given(llm: LLM) -> None:
    template = "{{ messages[0].content }} It is"
    ((chat,),) = llm.chat(QUESTION, GREEDY, chat_template=template, use_progress_bar=False)
    text = f"{QUESTION[0]['content']} It is"
    ((plain,),) = llm.generate(text, GREEDY, use_progress_bar=False)
    assert chat.token_ids == plain.token_ids


def test_several_conversations_run_in_one_batch(llm: LLM) -> None:
    other = [{"role": "user", "content": "Name a colour."}]
    together = llm.chat([QUESTION, other], GREEDY, use_progress_bar=False)
    alone = [llm.chat(one, GREEDY, use_progress_bar=False)[0] for one in (QUESTION, other)]
    assert [[c.text for c in choices] for choices in together] == [
        [c.text for c in choices] for choices in alone
    ]


def test_a_final_message_is_continued(llm: LLM) -> None:
    messages = [*QUESTION, {"role": "assistant", "content": "The answer is"}]
    ((choice,),) = llm.chat(messages, GREEDY, continue_final_message=True, use_progress_bar=False)
    assert choice.text.startswith(" ")
    assert "4" in choice.text


def test_an_image_is_refused_before_anything_runs(llm: LLM) -> None:
    with pytest.raises(BadRequestError, match="not supported"):
        llm.chat([{"role": "user", "content": [{"type": "image_url"}]}], GREEDY)
