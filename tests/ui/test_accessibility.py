"""axe-core's judgement of both pages, in every state that a reader meets, width and theme."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from .chat_page import ChatPage
from .conftest import OpenPage
from .dashboard_page import DashboardPage, wait_for_layout
from .open_requests import ENDLESS, open_request
from .scripted_feed import script_feed
from .visits import NARROW, WIDE

pytestmark = pytest.mark.slow
GRAVE = ("serious", "critical")
LONG = {"prompt": "Once upon a time, " * 12, **ENDLESS}
REFUSAL = {"error": {"message": "Not now.", "type": "x", "param": None, "code": 503}}
KEY_WANTED = {"error": {"message": "A key.", "type": "x", "param": None, "code": 401}}


@pytest.fixture
def check(axe_source: str) -> Callable[[Page], None]:
    """Let axe judge a page as it stands, wide and narrow, light and dark."""

    def check_one(page: Page, prepare: Callable[[], None] = lambda: None) -> None:
        page.evaluate(axe_source)
        for width, height in (WIDE, NARROW):
            page.set_viewport_size({"width": width, "height": height})
            for theme in ("light", "dark"):
                page.emulate_media(color_scheme=theme, reduced_motion="reduce")
                prepare()
                wait_for_layout(page)
                found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
                grave = [v for v in found["violations"] if v["impact"] in GRAVE]
                assert not grave, f"{width} {theme}: {told(grave)}"
                assert found["passes"], "axe looked at nothing"

    return check_one


def told(violations: list[dict[str, Any]]) -> str:
    """Each violation with the elements it was found in."""
    lines = []
    for violation in violations:
        lines.append(f"{violation['id']} ({violation['impact']}): {violation['help']}")
        lines += [f"  {node['html']}\n  {node['failureSummary']}" for node in violation["nodes"]]
    return "\n".join(lines)


@pytest.fixture
def open_for_axe(open_page: OpenPage) -> OpenPage:
    """Axe is a script from outside, so the pages' policy is off here, and only here."""

    def open_one(url: str, path: str = "/", **options: Any) -> Any:
        return open_page(url, path, bypass_csp=True, **options)

    return open_one


def test_axe_finds_what_is_wrong(
    open_for_axe: OpenPage, server: Any, check: Callable[[Page], None]
) -> None:
    page = open_for_axe(server.url).page
    page.evaluate("document.body.append(document.createElement('input'))")
    with pytest.raises(AssertionError, match="label"):
        check(page)


def test_the_empty_chat(open_for_axe: OpenPage, server: Any, check: Any) -> None:
    page = open_for_axe(server.url).page
    expect(page.locator("#model")).not_to_be_empty()
    check(page)


def test_an_answer_with_the_inspector_open(open_for_axe: OpenPage, server: Any, check: Any) -> None:
    chat = ChatPage(open_for_axe(server.url).page)
    chat.set(temperature=0, max_tokens=24)
    chat.ask("Name three colours.")

    def inspect() -> None:
        chat.last.locator(".text").focus()
        chat.page.keyboard.press("Home")
        chat.page.keyboard.press("ArrowRight")
        expect(chat.page.locator("#inspector")).to_be_visible()

    check(chat.page, inspect)


def test_an_answer_that_is_written(open_for_axe: OpenPage, server: Any, check: Any) -> None:
    chat = ChatPage(open_for_axe(server.url).page)
    chat.answer_endlessly()
    chat.set(temperature=0)
    chat.send("Tell me a long story about a lighthouse.")
    expect(chat.last.locator(".text")).not_to_be_empty()
    check(chat.page)
    assert chat.last.get_attribute("data-state") == "streaming"
    chat.page.click("#stop")
    chat.wait_for("stopped")


def test_a_refused_answer(open_for_axe: OpenPage, server: Any, check: Any) -> None:
    visit = open_for_axe(server.url)
    visit.conduct.allow_statuses(503)
    visit.page.route(
        "**/v1/chat/completions", lambda route: route.fulfill(status=503, json=REFUSAL)
    )
    chat = ChatPage(visit.page)
    chat.send("Hello")
    chat.wait_for("error")
    check(visit.page)


def test_the_dialog_for_the_key(open_for_axe: OpenPage, server: Any, check: Any) -> None:
    def want_key(page: Page) -> None:
        page.route("**/v1/models", lambda route: route.fulfill(status=401, json=KEY_WANTED))

    visit = open_for_axe(server.url, before=want_key)
    visit.conduct.allow_statuses(401)
    expect(visit.page.locator("dialog[open]")).to_be_visible()
    check(visit.page)


@pytest.fixture
def running_request(server: Any) -> Iterator[None]:
    """Something to show."""
    with open_request(server.url, "/v1/completions", LONG):
        yield


def test_the_live_dashboard(
    open_for_axe: OpenPage, server: Any, running_request: None, check: Any, wait_until: Any
) -> None:
    board = DashboardPage(open_for_axe(server.url, "/dashboard").page)
    expect(board.rows).to_have_count(1)
    wait_until(lambda: board.blocks_in(2, 3) != [], 20)
    board.go_to_block(min(board.blocks_in(2, 3)))
    button = board.rows.get_by_role("button")
    button.click()
    expect(button).to_have_attribute("aria-expanded", "true")
    check(board.page)
    assert board.rows.count() == 1, "it ended too early for this test"


def test_the_dashboard_before_its_first_frame(
    open_for_axe: OpenPage, server: Any, check: Any
) -> None:
    page = open_for_axe(server.url, "/dashboard", before=script_feed).page
    expect(page.locator("#connecting")).to_be_visible()
    check(page)


def test_the_dashboard_in_trouble(open_for_axe: OpenPage, server: Any, check: Any) -> None:
    def refuse(page: Page) -> None:
        page.route("**/dashboard/events", lambda route: route.fulfill(status=503, json=REFUSAL))

    visit = open_for_axe(server.url, "/dashboard", before=refuse)
    visit.conduct.allow_statuses(503)
    expect(visit.page.locator("#trouble")).to_be_visible()
    check(visit.page)
