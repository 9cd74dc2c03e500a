"""What the dashboard claims before it knows anything, in trouble, and of very many blocks."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from .conftest import OpenPage
from .dashboard_page import wait_for_layout
from .scripted_feed import ScriptedFeed, script_feed
from .visits import NARROW, WIDE

pytestmark = pytest.mark.slow
REFUSAL = {"error": {"message": "Too many look.", "type": "x", "param": None, "code": 503}}
CLAIMS = "block-map, #block-detail, #no-requests, #empty"
MANY_BLOCKS = 100_000
# From here on each text of the status is kept.
KEEP_STATUSES = """() => {
  window.statuses = [];
  new MutationObserver(() => window.statuses.push(document.getElementById("status").textContent))
    .observe(document.getElementById("status"), { childList: true, characterData: true });
}"""


def test_before_the_first_frame_nothing_is_claimed(open_page: OpenPage, server: Any) -> None:
    page = open_page(server.url, "/dashboard", before=script_feed).page
    feed = ScriptedFeed(page, num_blocks=40)
    connecting = page.locator("#connecting")
    assert_nothing_claimed(page)
    expect(connecting).to_be_visible()
    feed.hello()
    expect(page.locator("#model")).to_have_text("scripted")
    assert_nothing_claimed(page)
    expect(connecting).to_be_visible()
    feed.frame(num_used=0)
    expect(connecting).to_be_hidden()
    expect(page.locator("#no-requests")).to_be_visible()
    expect(page.locator("block-map canvas")).to_be_visible()


def assert_nothing_claimed(page: Page) -> None:
    for claim in page.locator(CLAIMS).all():
        expect(claim).to_be_hidden()
    cursors = page.locator(".figure svg .cursor")
    assert cursors.count() == 8
    for cursor in cursors.all():  # outside its picture, which cuts it off
        assert cursor.evaluate("line => line.getCTM().e + line.getBBox().x") < 0


def test_a_refused_stream_tells_why_and_claims_nothing(open_page: OpenPage, server: Any) -> None:
    def refuse(page: Page) -> None:
        page.route("**/dashboard/events", lambda route: route.fulfill(status=503, json=REFUSAL))

    visit = open_page(server.url, "/dashboard", before=refuse)
    visit.conduct.allow_statuses(503)
    notice = visit.page.locator("#trouble p")
    expect(notice).to_have_text("Too many look. Trying again every few seconds.")
    assert_nothing_claimed(visit.page)
    expect(visit.page.locator("#connecting")).to_be_hidden()


def test_a_new_stream_is_not_live_before_its_first_frame(
    open_page: OpenPage, server: Any, wait_until: Any
) -> None:
    page = open_page(server.url, "/dashboard", before=script_feed).page
    feed, trouble = ScriptedFeed(page, num_blocks=40), page.locator("#trouble")
    feed.hello()
    feed.frame(num_used=7)
    expect(page.locator("#status")).to_have_text("Live")
    page.evaluate(KEEP_STATUSES)
    feed.trouble("the engine stands still")
    since = r"What you see is from before (\d\d:\d\d:\d\d)\."
    expect(trouble).to_contain_text(re.compile(since))
    (time,) = times_in(trouble.inner_text())
    now = "new Date().toLocaleTimeString('en-GB')"
    wait_until(lambda: page.evaluate(now) != time, 20)  # so that one that begins anew would differ
    for opened in (2, 3):
        feed.end()
        wait_until(lambda opened=opened: feed.num_opened == opened, 20)
        feed.hello()
        expect(page.locator("main")).to_have_class(re.compile("stale"))
        assert num_used(page) == 7
        feed.trouble("the engine stands still")
        expect(trouble).to_contain_text("The engine stands still.")
        assert times_in(trouble.inner_text()) == [time]
    assert "Live" not in page.evaluate("window.statuses")
    feed.frame(num_used=3)
    expect(trouble).to_be_hidden()
    expect(page.locator("#status")).to_have_text("Live")
    expect(page.locator("main")).not_to_have_class(re.compile("stale"))
    assert num_used(page) == 3


def times_in(text: str) -> list[str]:
    return re.findall(r"\d\d:\d\d:\d\d", text)


def num_used(page: Page) -> int:
    """Cells that the map shows as used."""
    counted = "document.querySelector('block-map').cells.reduce((n, v) => n + (v % 4 === 2), 0)"
    return int(page.evaluate(counted))


@pytest.mark.parametrize("size", [NARROW, (1000, 700), WIDE], ids=["375", "1000", "1600"])
def test_the_detail_stays_in_sight_and_off_the_chosen_cell(
    open_page: OpenPage, server: Any, size: tuple[int, int]
) -> None:
    def answer(page: Page) -> None:
        script_feed(page)
        holders = [{"id": "W" * 120, "position": i} for i in range(3)]
        block = {"block": 1, "state": "shared", "holders": holders, "hash": "ab" * 16, "text": None}
        page.route("**/dashboard/blocks/*", lambda route: route.fulfill(json=block))

    page = open_page(server.url, "/dashboard", size=size, before=answer).page
    feed, detail = ScriptedFeed(page, MANY_BLOCKS), page.locator("#block-detail")
    feed.hello()
    feed.frame(num_used=50)
    page.locator("block-map").focus()
    page.keyboard.press("Home")
    for key in ("ArrowRight", *["PageDown"] * 12, "ArrowLeft"):
        page.keyboard.press(key)
        expect(detail).to_contain_text("block 3 of its table")
        wait_for_layout(page)  # the detail has grown since the answer came
        boxes = page.evaluate(BOXES)
        assert 0 <= boxes["detailTop"] < boxes["detailBottom"] <= boxes["height"] + 1
        assert boxes["detailBottom"] - boxes["detailTop"] <= 0.4 * boxes["height"] + 1
        assert boxes["cellTop"] >= 0 and boxes["cellBottom"] <= boxes["detailTop"], (key, boxes)
    page.keyboard.press("Tab")  # on to what follows, the detail itself and then the requests
    expect(detail).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator(".requests-scroll")).to_be_focused()


def test_the_detail_never_covers_the_choice_of_colours(open_page: OpenPage, server: Any) -> None:
    page = open_page(server.url, "/dashboard", size=NARROW, before=script_feed).page
    feed = ScriptedFeed(page, MANY_BLOCKS)
    feed.hello()
    feed.frame(num_used=50)
    expect(page.locator("block-map canvas")).to_be_visible()
    wait_for_layout(page)
    for mode in ("request", "age", "state"):
        radio = page.locator(f"input[name=colour][value={mode}]")
        radio.evaluate("radio => radio.scrollIntoView({ block: 'end' })")  # where the detail sticks
        wait_for_layout(page)
        assert radio.evaluate(IS_ON_TOP), mode


IS_ON_TOP = """node => {
  const { left, top, width, height } = node.getBoundingClientRect();
  return document.elementFromPoint(left + width / 2, top + height / 2) === node;
}"""
BOXES = """() => {
  const box = selector => document.querySelector(selector).getBoundingClientRect();
  const [detail, cell] = [box("#block-detail"), box(".map-cursor")];
  return { height: innerHeight, detailTop: detail.top, detailBottom: detail.bottom,
           cellTop: cell.top, cellBottom: cell.bottom };
}"""
