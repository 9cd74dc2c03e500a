"""Text that would like to be markup or a script is shown as text, wherever a page shows any."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from .chat_page import COMPLETIONS, ChatPage
from .conftest import OpenPage
from .dashboard_page import DashboardPage
from .open_requests import ENDLESS, open_request
from .visits import Visit

pytestmark = pytest.mark.slow
HOSTILE = (
    '<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>'
    '<a href="javascript:window.pwned=3">x</a><svg onload=window.pwned=4>&amp;'
)
HOSTILE_ID = "<img/src=x/onerror=window.pwned=5><script>window.pwned=6</script>"
MADE_OF_MARKUP = (
    "img:not(.brand img), script:not([src]), svg[onload], iframe, a[href^='javascript']"
)


def assert_harmless(page: Page) -> None:
    """Nothing ran, and no element was made of the text."""
    assert page.evaluate("window.pwned === undefined")
    assert page.locator(MADE_OF_MARKUP).count() == 0
    assert page.locator("[onerror], [onload], [onclick]").count() == 0


def events(*chunks: dict[str, Any]) -> str:
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def chunk(delta: dict[str, Any], entries: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A chunk of a chat's stream as the server makes it."""
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    if entries is not None:
        choice["logprobs"] = {"content": entries}
    return {
        "id": HOSTILE,
        "object": "chat.completion.chunk",
        "created": 1,
        "model": HOSTILE,
        "choices": [choice],
    }


def entry(token: str, **more: Any) -> dict[str, Any]:
    return {"token": token, "logprob": -0.5, "bytes": list(token.encode()), **more}


def ending(reason: str) -> dict[str, Any]:
    made = chunk({})
    made["choices"][0]["finish_reason"] = reason
    return made


def answer_with(page: Page, body: str, status: int = 200) -> None:
    """Every chat from now on is answered with this."""
    kind = "text/event-stream" if status == 200 else "application/json"

    def fulfil(route: Route) -> None:
        route.fulfill(status=status, content_type=kind, body=body)

    page.route(COMPLETIONS, fulfil)


@pytest.fixture
def visit(open_page: OpenPage, server: Any) -> Visit:
    return open_page(server.url)


@pytest.fixture
def chat(visit: Visit) -> Iterator[ChatPage]:
    """A chat page; after the test nothing of the text may have come to life."""
    yield ChatPage(visit.page)
    assert_harmless(visit.page)


def test_an_answer_of_markup_is_shown_as_text(chat: ChatPage) -> None:
    body = events(chunk({"role": "assistant", "content": HOSTILE}), ending("stop"))
    answer_with(chat.page, body)
    assert chat.ask(HOSTILE) == HOSTILE
    question = chat.page.locator("#conversation li[data-role=user] .text")
    assert question.text_content() == HOSTILE


def test_tokens_and_alternatives_of_markup_are_shown_as_text(chat: ChatPage) -> None:
    pieces = [HOSTILE[:30], HOSTILE[30:]]
    others = [entry(HOSTILE), entry("<script>window.pwned=7</script>")]
    chunks = [
        chunk({"content": piece}, [entry(piece, top_logprobs=[entry(piece), *others])])
        for piece in pieces
    ]
    answer_with(chat.page, events(*chunks, ending("length")))
    assert chat.ask("Hello") == HOSTILE
    tokens = chat.last.locator(".token")
    assert tokens.all_text_contents() == pieces
    tokens.first.hover()
    expect(chat.page.locator("#inspector")).to_contain_text("<script>window.pwned=7</script>")


def test_reasoning_of_markup_is_shown_as_text(chat: ChatPage) -> None:
    body = events(chunk({"reasoning": HOSTILE}), chunk({"content": "Yes."}), ending("stop"))
    answer_with(chat.page, body)
    assert chat.ask("Hello") == "Yes."
    assert HOSTILE in (chat.last.locator("details").text_content() or "")


def test_an_error_of_markup_is_shown_as_text(visit: Visit, chat: ChatPage) -> None:
    visit.conduct.allow_statuses(400)
    error = {"error": {"message": HOSTILE, "type": "x", "param": None, "code": 400}}
    answer_with(chat.page, json.dumps(error), status=400)
    chat.send("Hello")
    chat.wait_for("error")
    assert HOSTILE in (chat.last.locator(".notice").text_content() or "")


def test_an_error_of_markup_in_the_middle_is_shown_as_text(chat: ChatPage) -> None:
    error = {"error": {"message": HOSTILE, "type": "x", "param": None, "code": 500}}
    answer_with(chat.page, events(chunk({"content": "So far"}), error))
    chat.send("Hello")
    chat.wait_for("error")
    assert chat.text() == "So far"
    assert HOSTILE in (chat.last.locator(".notice").text_content() or "")


def test_a_model_named_with_markup_is_named_as_text(open_page: OpenPage, server: Any) -> None:
    models = {"object": "list", "data": [{"id": HOSTILE, "object": "model", "max_model_len": 64}]}

    def pretend(page: Page) -> None:
        page.route("**/v1/models", lambda route: route.fulfill(json=models))

    page = open_page(server.url, before=pretend).page
    expect(page.locator("#model")).to_contain_text(HOSTILE)
    assert_harmless(page)


def test_a_request_id_of_markup_is_shown_as_text_on_the_dashboard(
    open_page: OpenPage, server: Any, wait_until: Any
) -> None:
    page = open_page(server.url, "/dashboard").page
    board = DashboardPage(page)
    board.wait_for_map()
    body = {"prompt": "Once upon a time", **ENDLESS}
    with open_request(server.url, "/v1/completions", body, x_request_id=HOSTILE_ID):
        row = page.locator("#requests li[data-id]").first
        expect(row).to_be_visible()
        assert HOSTILE_ID in (row.get_attribute("data-id") or "")
        wait_until(lambda: board.blocks_in(2, 3) != [], 20)
        board.go_to_block(min(board.blocks_in(2, 3)))
        expect(page.locator("#block-detail")).to_contain_text(HOSTILE_ID)
        assert_harmless(page)
