"""Keys: what stays open without one, how the pages ask for it, and where it is kept."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from ..conftest import StartServer
from .block_truth import public_id
from .chat_page import ChatPage
from .conftest import ADMIN_KEY as ROOMY_ADMIN_KEY
from .conftest import OpenPage
from .dashboard_page import DashboardPage
from .open_requests import ENDLESS, open_request
from .visits import Visit

pytestmark = pytest.mark.slow
KEY, ADMIN_KEY, WRONG_KEY = "key-of-the-pages", "admin-of-the-pages", "key-of-nobody"


@pytest.fixture(scope="module")
def guarded_server(start_server: StartServer) -> Iterator[Any]:
    """A server with an API key and an admin key."""
    flags = ("--api-key", KEY, "--admin-key", ADMIN_KEY, "--dtype", "float32")
    with start_server(*flags) as running:
        yield running
        running.wait_idle()


def dialog(page: Page) -> Locator:
    return page.locator("dialog[open]")


def give_key(page: Page, key: str) -> None:
    expect(dialog(page)).to_be_visible()
    dialog(page).locator("input[type=password]").fill(key)
    dialog(page).get_by_role("button", name="Use").click()


def assert_kept_well(visit: Visit, *keys: str) -> None:
    """The key went into no address, and is kept for this tab alone."""
    stored = visit.page.evaluate("JSON.stringify([{...localStorage}, document.cookie])")
    for key in keys:
        assert key not in stored
        assert not [url for url in [*visit.conduct.requests, visit.page.url] if key in url]
    assert visit.page.evaluate("sessionStorage.getItem('octavo.key')") == keys[-1]


def headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("path", ["/", "/dashboard", "/ui/style/base.css", "/metrics", "/readyz"])
def test_pages_hold_no_secret_and_are_open(guarded_server: Any, path: str) -> None:
    assert guarded_server.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/dashboard/events", "/dashboard/blocks/1", "/v1/models"])
def test_what_they_show_wants_a_key(guarded_server: Any, path: str) -> None:
    for given in ({}, headers(WRONG_KEY)):
        answer = guarded_server.get(path, headers=given)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"


def test_the_chat_asks_until_the_key_is_right(open_page: OpenPage, guarded_server: Any) -> None:
    visit = open_page(guarded_server.url)
    visit.conduct.allow_statuses(401)
    give_key(visit.page, WRONG_KEY)
    expect(dialog(visit.page)).to_contain_text("did not accept")
    give_key(visit.page, KEY)
    expect(dialog(visit.page)).to_have_count(0)
    chat = ChatPage(visit.page)
    chat.set(temperature=0, max_tokens=4)
    assert chat.ask("Hello")
    assert_kept_well(visit, WRONG_KEY, KEY)
    expect(visit.page.locator("#key")).to_be_visible()

    visit.page.reload()  # kept in the tab
    expect(visit.page.locator("#model")).not_to_be_empty()
    expect(dialog(visit.page)).to_have_count(0)


def test_a_cancelled_dialog_says_why_nothing_works(
    open_page: OpenPage, guarded_server: Any
) -> None:
    visit = open_page(guarded_server.url)
    visit.conduct.allow_statuses(401)
    expect(dialog(visit.page)).to_be_visible()
    visit.page.keyboard.press("Escape")
    expect(dialog(visit.page)).to_have_count(0)
    expect(visit.page.locator("#status")).to_have_attribute("data-state", "trouble")


def test_a_kept_key_can_be_forgotten(
    open_page: OpenPage, guarded_server: Any, wait_until: Any
) -> None:
    visit = open_page(guarded_server.url)
    visit.conduct.allow_statuses(401)
    give_key(visit.page, KEY)
    expect(visit.page.locator("#model")).not_to_be_empty()
    visit.page.click("#key")
    dialog(visit.page).get_by_role("button", name="Forget").click()
    # The dialog is closed first, and then the page acts on it.
    wait_until(lambda: visit.page.evaluate("sessionStorage.getItem('octavo.key')") is None, 20)


def test_the_dashboard_asks_and_shows_text_to_the_admin_alone(
    open_page: OpenPage, guarded_server: Any, wait_until: Any
) -> None:
    path, prompt = "/v1/completions", "A rare sentence about quinces. " * 8
    body = {"prompt": prompt, **ENDLESS}
    bearer = f"Bearer {KEY}"
    with open_request(guarded_server.url, path, body, authorization=bearer):
        wait_until(lambda: first_block(guarded_server, KEY) is not None, 30)
        number = first_block(guarded_server, KEY)
        texts = {
            key: guarded_server.get(f"/dashboard/blocks/{number}", headers=headers(key)).json()
            for key in (KEY, ADMIN_KEY)
        }
        assert texts[KEY]["text"] is None and texts[KEY]["holders"]
        assert "quinces" in texts[ADMIN_KEY]["text"]

        for key in (KEY, ADMIN_KEY):
            visit = open_page(guarded_server.url, "/dashboard")
            visit.conduct.allow_statuses(401)
            give_key(visit.page, key)
            expect(visit.page.locator("#requests li[data-id]")).to_have_count(1)
            assert_kept_well(visit, key)
            board = DashboardPage(visit.page)
            board.go_to_block(number)
            detail = board.detail
            expect(detail).to_contain_text(public_id(texts[KEY]["holders"][0]["id"]) + ", block 1")
            if key == ADMIN_KEY:
                expect(detail).to_contain_text("quinces")
            else:
                expect(detail).not_to_contain_text("quinces")


def test_an_admin_key_can_be_given_unasked(
    open_page: OpenPage, roomy_server: Any, wait_until: Any
) -> None:
    visit = open_page(roomy_server.url, "/dashboard")
    board = DashboardPage(visit.page)
    board.wait_for_map()
    expect(dialog(visit.page)).to_have_count(0)
    visit.page.click("#key")
    give_key(visit.page, ROOMY_ADMIN_KEY)
    expect(dialog(visit.page)).to_have_count(0)
    body = {"prompt": "A plain sentence about medlars. " * 4, **ENDLESS}

    def first() -> int | None:
        return first_block(roomy_server, ROOMY_ADMIN_KEY, board.blocks_in(2))

    with open_request(roomy_server.url, "/v1/completions", body):
        wait_until(lambda: first() is not None, 30)
        board.go_to_block(first())
        expect(board.detail).to_contain_text("medlars")
    roomy_server.wait_idle()


def first_block(server: Any, key: str, numbers: Iterable[int] = range(1, 41)) -> int | None:
    """The one of these blocks that holds the beginning of the only request, if one does by now."""
    for number in numbers:
        block = server.get(f"/dashboard/blocks/{number}", headers=headers(key)).json()
        if [holder["position"] for holder in block["holders"]] == [0]:
            return number
    return None


def test_without_pages_the_api_remains(start_server: StartServer) -> None:
    with start_server("--no-ui", "--max-model-len", "256") as server:
        for path in ("/", "/dashboard", "/ui/icon.svg", "/dashboard/events", "/dashboard/blocks/1"):
            answer = server.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, 404), path
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
        assert server.post("/v1/chat/completions", json=body).status_code == 200
