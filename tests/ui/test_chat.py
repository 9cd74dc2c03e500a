"""The chat in a real browser: what is typed, what is sent, and what is shown of the answer."""

import json
import math
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from .chat_page import ChatPage, plain_body
from .conftest import OpenPage
from .visits import Visit

pytestmark = pytest.mark.slow
QUESTION = "What is the capital of France? Answer in one sentence."
LONG_QUESTION = "Tell me a long story about a lighthouse."
TRIALS = 10


@pytest.fixture
def visit(open_page: OpenPage, server: Any) -> Visit:
    return open_page(server.url)


@pytest.fixture
def chat(visit: Visit) -> ChatPage:
    return ChatPage(visit.page)


def same_without_browser(server: Any, chat: ChatPage) -> dict[str, Any]:
    """What the API answers to the last request of the page, in one piece."""
    answer = server.post("/v1/chat/completions", json=plain_body(chat.bodies[-1]))
    return dict(answer.raise_for_status().json())


def test_an_answer_is_what_the_api_gives_and_its_figures_are_the_usage(
    server: Any, chat: ChatPage
) -> None:
    chat.set(temperature=0, max_tokens=24)
    for _ in range(TRIALS):
        shown = chat.ask(QUESTION)
        whole = same_without_browser(server, chat)
        assert shown == whole["choices"][0]["message"]["content"] != ""
        figures, usage = chat.figures(), whole["usage"]
        assert figures["Prompt"].split()[0] == str(usage["prompt_tokens"])
        assert figures["Generated"].split()[0] == str(usage["completion_tokens"])
        assert re.fullmatch(r"[\d.]+ m?s", figures["TTFT"])
        if "Speed" in figures:
            break
        chat.begin_anew()  # all tokens came at once, after a stall: that is no speed
    assert re.fullmatch(r"[\d.,]+ tokens/s", figures["Speed"])
    expect(chat.page.locator("#send")).to_be_visible()
    expect(chat.page.locator("#prompt")).to_have_value("")


def test_a_stopped_answer_stays_and_its_blocks_come_back(
    server: Any, chat: ChatPage, wait_until: Any
) -> None:
    chat.answer_endlessly()
    chat.set(temperature=0)
    chat.send(LONG_QUESTION)
    expect(chat.last).to_have_attribute("data-state", "streaming")
    wait_until(lambda: len(chat.text()) > 20, 60)
    chat.page.click("#stop")
    chat.wait_for("stopped")
    text = chat.text()
    server.wait_idle()
    assert len(text) > 20 and chat.text() == text
    expect(chat.page.locator("#stop")).to_be_hidden()

    chat.answer_as_asked()
    chat.set(max_tokens=8)
    chat.ask("Go on.")  # what came before the stop belongs to the conversation
    sent = chat.bodies[-1]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert sent[1]["content"] == text


def test_escape_stops_an_answer(chat: ChatPage, wait_until: Any) -> None:
    chat.answer_endlessly()
    chat.set(temperature=0)
    chat.send(LONG_QUESTION)
    wait_until(lambda: chat.text() != "", 60)
    chat.page.keyboard.press("Escape")
    chat.wait_for("stopped")


def percents(text: str) -> list[str]:
    return re.findall(r"[<\d.]+(?: [\d.]+)? %", text)


def percent(share: float) -> str:
    """As the pages write shares: see server/ui/shared/format.js."""
    hundredths = share * 100
    if 0 < hundredths < 0.05:
        return "< 0.1 %"
    if 9.95 <= hundredths < 99:
        return f"{math.floor(hundredths + 0.5)} %"
    text = f"{hundredths:.1f}"
    return f"{text.removesuffix('.0') if share == 0 or share >= 0.99 else text} %"


def test_each_token_tells_its_probability_and_the_alternatives(server: Any, chat: ChatPage) -> None:
    chat.set(temperature=0, max_tokens=12)
    chat.ask("Name three colours.")
    entries = same_without_browser(server, chat)["choices"][0]["logprobs"]["content"]
    tokens, inspector = chat.last.locator(".token"), chat.page.locator("#inspector")
    assert tokens.all_text_contents() == [entry["token"] for entry in entries if entry["token"]]
    for index, entry in enumerate(entries[:4]):
        shown = float(tokens.nth(index).get_attribute("data-probability") or "nan")
        assert shown == pytest.approx(math.exp(entry["logprob"]), rel=1e-3)
        tokens.nth(index).hover()
        expect(inspector).to_be_visible()
        expect(inspector).to_contain_text(percent(math.exp(entry["logprob"])))
        wanted = [percent(math.exp(other["logprob"])) for other in entry["top_logprobs"]]
        assert len(wanted) == 5
        for share in wanted:
            expect(inspector).to_contain_text(share)


def test_arrow_keys_walk_over_the_tokens(server: Any, chat: ChatPage) -> None:
    chat.set(temperature=0, max_tokens=12)
    chat.ask("Name three colours.")
    entries = same_without_browser(server, chat)["choices"][0]["logprobs"]["content"]
    shares = [percent(math.exp(entry["logprob"])) for entry in entries if entry["token"]]
    inspector, keyboard = chat.page.locator("#inspector"), chat.page.keyboard
    chat.last.locator(".text").focus()
    for key, expected in (
        ("Home", shares[0]),
        ("ArrowRight", shares[1]),
        ("ArrowRight", shares[2]),
        ("ArrowLeft", shares[1]),
        ("End", shares[-1]),
    ):
        keyboard.press(key)
        expect(inspector).to_contain_text(expected)
    keyboard.press("Escape")
    expect(inspector).to_be_hidden()


def test_blank_parameters_are_not_sent_and_others_as_typed(chat: ChatPage) -> None:
    chat.set(max_tokens=1)
    chat.ask("Hello")
    names = {"temperature", "top_p", "seed", "stop", "max_tokens", "max_completion_tokens"}
    sent = {name: value for name, value in chat.bodies[-1].items() if name in names}
    assert list(sent.values()) == [1]
    assert [message["role"] for message in chat.bodies[-1]["messages"]] == ["user"]
    assert (chat.bodies[-1]["logprobs"], chat.bodies[-1]["top_logprobs"]) == (True, 5)

    chat.begin_anew()
    chat.set(system="You are terse.", temperature=0.5, top_p=0.9, seed=7, stop="zebra")
    chat.set(logprobs=False)
    chat.ask("Hello")
    body = chat.bodies[-1]
    assert (body["temperature"], body["top_p"], body["seed"]) == (0.5, 0.9, 7)
    assert body["stop"] in ("zebra", ["zebra"])
    assert body["messages"][0] == {"role": "system", "content": "You are terse."}
    assert not body.get("logprobs") and "top_logprobs" not in body
    assert chat.last.locator(".token[data-probability]").count() == 0


def test_a_refusal_is_shown_in_place_and_nothing_is_lost(visit: Visit, chat: ChatPage) -> None:
    visit.conduct.allow_statuses(400)
    chat.page.locator("#parameters [name=max_tokens]").fill(str(10**9))
    chat.send("A question worth keeping")
    chat.wait_for("error")
    notice = chat.last.locator(".notice")
    expect(notice).to_contain_text(f"requested {10**9} output tokens")
    everything = chat.page.locator("#conversation li[data-role=user]").inner_text()
    assert "A question worth keeping" in everything

    chat.set(max_tokens=4, temperature=0)
    chat.last.get_by_role("button", name="Try again").click()
    chat.wait_for("done")
    assert chat.text()
    asked = [m["content"] for m in chat.bodies[-1]["messages"] if m["role"] == "user"]
    assert asked == ["A question worth keeping"]


def test_enter_sends_and_shift_enter_makes_a_line(chat: ChatPage) -> None:
    chat.set(temperature=0, max_tokens=4)
    chat.page.focus("#prompt")
    chat.page.keyboard.type("One")
    chat.page.keyboard.press("Shift+Enter")
    chat.page.keyboard.type("two")
    expect(chat.page.locator("#prompt")).to_have_value("One\ntwo")
    assert chat.answers.count() == 0
    chat.page.keyboard.press("Enter")
    chat.wait_for("done")
    assert chat.bodies[-1]["messages"] == [{"role": "user", "content": "One\ntwo"}]


def test_nothing_is_sent_of_an_empty_prompt(chat: ChatPage) -> None:
    chat.page.fill("#prompt", "  \n ")
    chat.page.press("#prompt", "Enter")
    chat.set(temperature=0, max_tokens=2)
    chat.page.fill("#prompt", "")
    chat.ask("Hello")  # had the blank one been sent, it would have been answered first
    assert len(chat.bodies) == chat.answers.count() == 1


def test_a_second_turn_sends_the_first_along_and_a_new_chat_forgets_it(chat: ChatPage) -> None:
    chat.set(temperature=0, max_tokens=12)
    first = chat.ask("Say hello.")
    second = chat.ask("And goodbye?")
    assert first and second
    assert chat.bodies[-1]["messages"] == [
        {"role": "user", "content": "Say hello."},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "And goodbye?"},
    ]
    chat.begin_anew()
    chat.ask("Say hello.")
    assert chat.bodies[-1]["messages"] == [{"role": "user", "content": "Say hello."}]


def test_an_answer_cut_at_max_tokens_says_so(chat: ChatPage) -> None:
    chat.set(temperature=0, max_tokens=3)
    chat.ask(LONG_QUESTION)
    expect(chat.last).to_contain_text(re.compile("max tokens", re.IGNORECASE))


def test_the_model_is_named(server: Any, chat: ChatPage) -> None:
    name = server.get("/v1/models").json()["data"][0]["id"]
    expect(chat.page.locator("#model")).to_contain_text(name)


@pytest.mark.parametrize("kept", ["{", "null", "7", '"x"', "[null, 1]"])
def test_what_was_kept_and_cannot_be_read_is_as_good_as_nothing(
    open_page: OpenPage, server: Any, kept: str
) -> None:
    def spoil(page: Page) -> None:
        names = ["octavo.parameters", "octavo.conversation"]
        page.add_init_script(
            f"for (const name of {names}) sessionStorage.setItem(name, {json.dumps(kept)});"
        )

    page = open_page(server.url, before=spoil).page
    expect(page.locator("#model")).not_to_be_empty()
    expect(page.locator("#status")).to_have_attribute("data-state", "ok")
    expect(page.locator("#conversation li")).to_have_count(0)
    expect(page.locator("#parameters [name=seed]")).to_have_value("")
