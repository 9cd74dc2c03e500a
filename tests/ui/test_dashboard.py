"""The dashboard in a real browser: figures, requests, the map's controls, broken streams."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Request, expect

from ..conftest import StartServer
from .block_truth import shown_cells, shown_legend
from .conftest import OpenPage
from .dashboard_page import DashboardPage, wait_for_layout
from .open_requests import ENDLESS, open_request
from .relay import Relay
from .visits import NARROW, WIDE, Visit

pytestmark = pytest.mark.slow
COMPLETIONS = "/v1/completions"
LONG = {"prompt": "Once upon a time", **ENDLESS}
FIGURES = ("running", "waiting", "generation", "prompt", "ttft", "itl", "hit-rate", "kv-usage")


@pytest.fixture
def visit(open_page: OpenPage, server: Any) -> Visit:
    return open_page(server.url, "/dashboard")


@pytest.fixture
def board(visit: Visit) -> DashboardPage:
    board = DashboardPage(visit.page)
    board.wait_for_map()
    return board


def test_figures_tell_of_a_running_request(server: Any, board: DashboardPage) -> None:
    with open_request(server.url, COMPLETIONS, LONG):
        expect(board.figure("running")).to_have_text("1")
        for name in ("generation", "kv-usage", "itl"):
            expect(board.figure(name)).to_have_text(re.compile(r"[1-9]"))
    expect(board.figure("running")).to_have_text("0")
    for name in FIGURES:
        expect(board.figure(name)).not_to_be_empty()


def test_a_request_appears_decodes_and_leaves(server: Any, board: DashboardPage) -> None:
    expect(board.rows).to_have_count(0)
    with open_request(server.url, COMPLETIONS, LONG, x_request_id="seen-passing"):
        row = board.page.locator("#requests li[data-id*=seen-passing]")
        expect(row).to_have_attribute("data-stage", "decode")
        expect(board.rows).to_have_count(1)
    expect(board.rows).to_have_count(0)
    expect(row).to_have_count(0)


def test_the_legend_counts_what_metrics_count(
    server: Any, board: DashboardPage, wait_until: Any
) -> None:
    body = {"prompt": "A legend of its own. " * 20, "max_tokens": 2}
    server.post(COMPLETIONS, json=body).raise_for_status()
    server.wait_idle()
    counts = {s: server.gauge(f"octavo_kv_blocks_{s}") for s in ("free", "cached", "used")}
    assert counts["cached"] > 0
    wait_until(lambda: shown_legend(board.page) == {**counts, "shared": 0}, 20)
    assert board.num_cells == sum(counts.values())


@pytest.fixture(scope="module")
def single_server(start_server: StartServer) -> Iterator[Any]:
    """A server that runs one request at a time."""
    with start_server("--max-num-seqs", "1", "--dtype", "float32") as running:
        yield running


def test_a_request_pinned_while_it_waits_stands_out_once_it_runs(
    open_page: OpenPage, single_server: Any, wait_until: Any
) -> None:
    url = single_server.url
    page = open_page(url, "/dashboard").page
    board = DashboardPage(page)
    board.wait_for_map()
    row = page.locator("#requests li[data-id*=has-to-wait]")
    with ExitStack() as first:
        first.enter_context(open_request(url, COMPLETIONS, LONG))
        expect(board.rows).to_have_count(1)
        with open_request(url, COMPLETIONS, LONG, x_request_id="has-to-wait"):
            expect(row).to_have_attribute("data-stage", "queue")
            button = row.get_by_role("button")
            button.click()
            expect(button).to_have_attribute("aria-expanded", "true")
            assert highlighted(page) == 0
            first.close()
            expect(row).to_have_attribute("data-stage", "decode")
            wait_until(lambda: highlighted(page) in owners(page) - {0}, 20)
    single_server.wait_idle()
    expect(row).to_have_count(0)
    wait_until(lambda: highlighted(page) == 0, 20)


def highlighted(page: Any) -> int:
    """The number of the request whose cells stand out; 0 for none."""
    return int(page.evaluate("document.querySelector('block-map').highlighted"))


def owners(page: Any) -> set[int]:
    return {cell.owner for cell in shown_cells(page)}


def test_keys_walk_over_the_map(server: Any, board: DashboardPage) -> None:
    last, block_map = board.num_cells, board.block_map
    block_map.focus()
    for key, expected in (
        ("Home", 1),
        ("ArrowRight", 2),
        ("ArrowRight", 3),
        ("ArrowLeft", 2),
        ("End", last),
        ("ArrowLeft", last - 1),
        ("Home", 1),
    ):
        board.page.keyboard.press(key)
        expect(block_map).to_have_attribute("aria-valuenow", str(expected))
        text = re.compile(rf"Block ({expected}|{expected:,})\b")
        expect(block_map).to_have_attribute("aria-valuetext", text)
        expect(board.detail).to_contain_text(text)
    board.page.keyboard.press("ArrowDown")  # by a row
    expect(block_map).not_to_have_attribute("aria-valuenow", "1")
    columns = int(block_map.get_attribute("aria-valuenow") or 0) - 1
    assert 1 < columns < last
    board.page.keyboard.press("ArrowUp")
    expect(block_map).to_have_attribute("aria-valuenow", "1")


def test_the_detail_names_holder_and_hash(
    server: Any, board: DashboardPage, wait_until: Any
) -> None:
    body = {**LONG, "prompt": "A prompt of more than one block. " * 8}
    with open_request(server.url, COMPLETIONS, body, x_request_id="holder-of-blocks"):
        wait_until(lambda: len(board.blocks_in(2, 3)) > 2, 20)
        number = min(board.blocks_in(2, 3))

        def digest() -> str | None:  # a block that is not yet full has none
            return server.get(f"/dashboard/blocks/{number}").json()["hash"]

        wait_until(lambda: digest() is not None, 20)
        known = digest()
        assert known is not None
        board.go_to_block(number)
        expect(board.detail).to_contain_text(known[:16])
        expect(board.detail).to_contain_text("holder-of-blocks")
        expect(board.detail).to_contain_text(re.compile("used", re.IGNORECASE))
    expect(board.detail).to_contain_text(re.compile("cached", re.IGNORECASE))
    expect(board.detail).not_to_contain_text("holder-of-blocks")


def test_the_detail_is_one_readable_column_on_a_phone(
    open_page: OpenPage, server: Any, wait_until: Any
) -> None:
    board = DashboardPage(open_page(server.url, "/dashboard", size=NARROW).page)
    board.wait_for_map()
    name = "holder-with-a-long-name-" + "0123456789" * 4
    with open_request(server.url, COMPLETIONS, LONG, x_request_id=name):
        wait_until(lambda: first_blocks(server, board) != [], 20)
        board.go_to_block(first_blocks(server, board)[0])
        expect(board.detail.locator("h3")).to_contain_text("cmpl-holder-…3456789")
        expect(board.detail.locator("dd").first).to_contain_text(f"cmpl-{name}, block 1 of its")
        wait_for_layout(board.page)
        panel, title_box, age_box = board.detail.evaluate(BOXES)
    assert title_box["width"] > 0.9 * panel["width"]
    assert title_box["height"] < 50  # two lines at most
    assert age_box["y"] >= title_box["y"] + title_box["height"]


# Of the detail, its title and the block's age, at one moment.
BOXES = """panel => [panel, panel.querySelector("h3"), panel.querySelector(".age")]
  .map(one => one.getBoundingClientRect().toJSON())"""


def first_blocks(server: Any, board: DashboardPage) -> list[int]:
    """Of the used blocks those that hold the beginning of a request."""
    held = {n: server.get(f"/dashboard/blocks/{n}").json()["holders"] for n in board.blocks_in(2)}
    return [n for n, holders in held.items() if [h["position"] for h in holders] == [0]]


def test_a_pinned_request_shows_its_whole_id_and_its_times(
    server: Any, board: DashboardPage
) -> None:
    name = "pinned-" + "0123456789" * 4
    row = board.page.locator(f"#requests li[data-id*={name}]")
    with open_request(server.url, COMPLETIONS, LONG, x_request_id=name):
        button = row.get_by_role("button")
        expect(button).to_have_text("cmpl-pinned-…3456789")
        times, more = re.compile("queue .*, prefill .*, decode .* s$"), row.locator(".more")
        expect(row.get_by_role("img", name=times)).to_be_visible()
        expect(more).to_be_hidden()
        button.focus()
        for is_pinned in (True, False):
            board.page.keyboard.press("Enter")
            expect(button).to_have_attribute("aria-expanded", "true" if is_pinned else "false")
            expect(more).to_be_visible(visible=is_pinned)
            expect(more).to_contain_text(f"cmpl-{name}")
            expect(more).to_contain_text(times)


def test_escape_leaves_no_block_chosen(board: DashboardPage) -> None:
    board.go_to_block(5)
    board.page.keyboard.press("Escape")
    expect(board.block_map).to_have_attribute("aria-valuetext", "No block chosen")
    expect(board.block_map).to_have_attribute("aria-valuenow", "1")
    expect(board.detail).to_contain_text("Point at a block")


# Of the chosen cell, from the map's corner.
MIDDLE_OF_OUTLINE = """() => {
  const [outline, map] = [".map-cursor", "block-map"]
    .map(selector => document.querySelector(selector).getBoundingClientRect());
  return [outline.x - map.x + outline.width / 2, outline.y - map.y + outline.height / 2];
}"""


def test_the_pointer_finds_the_same_blocks(board: DashboardPage) -> None:
    board.go_to_block(3)
    x, y = board.page.evaluate(MIDDLE_OF_OUTLINE)
    board.page.keyboard.press("End")
    expect(board.detail).to_contain_text("Hash")
    wait_for_layout(board.page)  # from here on the detail does not grow, so nothing moves
    board.block_map.hover(position={"x": x, "y": y})
    expect(board.block_map).to_have_attribute("aria-valuenow", "3")


# The colour of a cell as it is painted, beside what lies at its centre.
PAINTED = """number => {
  const map = document.querySelector("block-map");
  const { columns, pitch, gap } = map.layout;
  const middle = (pitch - gap) >> 1;
  const [x, y] = [(number - 1) % columns, Math.floor((number - 1) / columns)];
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const canvas = map.querySelector("canvas");
  context.drawImage(canvas, x * pitch + middle, y * pitch + middle, 1, 1, 0, 0, 1, 1);
  return Array.from(context.getImageData(0, 0, 1, 1).data).join();
}"""


def test_each_way_of_colouring_is_another_picture(
    open_page: OpenPage, server: Any, wait_until: Any
) -> None:
    """Of a cell that stays as it is; with glowing cells the picture changes by itself."""
    board = DashboardPage(open_page(server.url, "/dashboard", reduced_motion="reduce").page)
    board.wait_for_map()

    def painted() -> str:
        wait_for_layout(board.page)
        return str(board.page.evaluate(PAINTED, number))

    with open_request(server.url, COMPLETIONS, LONG):
        wait_until(lambda: board.blocks_in(2) != [], 20)
        number = min(board.blocks_in(2))
        by_state = painted()
        board.choose_colours("request")
        wait_until(lambda: painted() != by_state, 20)
        by_request = painted()
        board.choose_colours("age")  # which is the state's colour at first, and fades
        wait_until(lambda: painted() not in (by_state, by_request), 20)
        board.choose_colours("state")
        wait_until(lambda: painted() == by_state, 20)


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["375", "1600"])
@pytest.mark.parametrize("path", ["/", "/dashboard"])
def test_nothing_is_wider_than_the_window(
    open_page: OpenPage, server: Any, path: str, size: tuple[int, int]
) -> None:
    page = open_page(server.url, path, size=size).page
    with open_request(server.url, COMPLETIONS, LONG, x_request_id="W" * 120):
        if path == "/dashboard":
            expect(page.locator("#requests li[data-id]").first).to_be_visible()
            DashboardPage(page).go_to_block(1)
        else:
            page.fill("#prompt", "W" * 300)
        assert page.evaluate("innerWidth") == size[0]
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


# Counts the pictures in the second after the last block was given back.
COUNT_PICTURES = """() => {
  const map = document.querySelector("block-map");
  const isHeld = () => map.cells.some(value => value % 4 >= 2);
  const wait = ms => new Promise(resolve => setTimeout(resolve, ms));
  window.pictures = (async () => {
    while (isHeld()) await wait(5);
    const before = map.frameTimes.length;
    await wait(1000);
    return map.frameTimes.length - before;
  })();
}"""


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_cells_glow_after_a_change_unless_motion_is_unwanted(
    open_page: OpenPage, server: Any, wait_until: Any, motion: str
) -> None:
    page = open_page(server.url, "/dashboard", reduced_motion=motion).page
    board = DashboardPage(page)
    board.wait_for_map()

    def num_pictures() -> int:
        with open_request(server.url, COMPLETIONS, LONG):
            wait_until(lambda: len(board.blocks_in(2, 3)) > 0, 20)
            page.evaluate(COUNT_PICTURES)
        return int(page.evaluate("window.pictures"))

    if motion == "reduce":
        assert num_pictures() <= 2  # one, if all blocks came back in one frame
    else:  # a page that has to stand still in that second paints fewer
        assert any(num_pictures() >= 3 for _ in range(10))


def test_a_hidden_tab_costs_the_server_nothing(
    visit: Visit, board: DashboardPage, wait_until: Any
) -> None:
    ended: list[str] = []

    def note(request: Request) -> None:
        ended.append(request.url)

    visit.page.on("requestfailed", note)
    visit.page.on("requestfinished", note)
    show(visit, "hidden")
    wait_until(lambda: [u for u in flush(visit, ended) if u.endswith("/events")] != [], 20)
    before = len([url for url in visit.conduct.requests if url.endswith("/events")])
    show(visit, "visible")
    wait_until(
        lambda: (
            len([u for u in flush(visit, visit.conduct.requests) if u.endswith("/events")])
            == before + 1
        ),
        20,
    )
    expect(visit.page.locator("#status")).to_have_attribute("data-state", "ok")


def show(visit: Visit, state: str) -> None:
    """Let the page think that its tab is hidden or visible."""
    visit.page.evaluate(
        """state => {
          for (const [name, value] of [["visibilityState", state], ["hidden", state === "hidden"]])
            Object.defineProperty(document, name, { value, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


def flush(visit: Visit, noted: list[str]) -> list[str]:
    """The list, after what the browser has reported until now."""
    visit.page.evaluate("0")
    return noted


def test_a_lost_connection_is_told_and_found_again(open_page: OpenPage, server: Any) -> None:
    relay = Relay(server.url)
    visit = open_page(relay.url, "/dashboard")
    visit.conduct.allow_lost_connections()
    trouble, status = visit.page.locator("#trouble"), visit.page.locator("#status")
    expect(status).to_have_attribute("data-state", "ok")
    expect(trouble).to_be_hidden()
    relay.cut()
    expect(trouble).to_be_visible()
    expect(trouble).to_contain_text("cannot be reached")
    expect(status).to_have_attribute("data-state", "trouble")
    relay.mend()
    expect(trouble).to_be_hidden()
    expect(status).to_have_attribute("data-state", "ok")
    visit.close()
    relay.cut()


def test_an_engine_that_stands_still_is_told(
    open_page: OpenPage, small_server: Any, wait_until: Any
) -> None:
    visit = open_page(small_server.url, "/dashboard")
    board, trouble = DashboardPage(visit.page), visit.page.locator("#trouble")
    board.wait_for_map()
    expect(trouble).to_be_hidden()
    pid = small_server.process.pid
    (engine,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    os.kill(engine, signal.SIGSTOP)
    try:
        expect(trouble).to_be_visible(timeout=60_000)  # an answer is waited for 10 s
        expect(trouble).to_contain_text(re.compile(r"engine .*\. What you see is from before"))
    finally:
        os.kill(engine, signal.SIGCONT)
    expect(trouble).to_be_hidden()
    small_server.post(COMPLETIONS, json={"prompt": "Hello. " * 40, "max_tokens": 2})
    wait_until(lambda: board.blocks_in(1) != [], 20)
