"""The block map against the pool: a known sequence of requests, and after each the cells.

The page is fed by the stream of changes; `GET /dashboard/blocks/N` walks the pool itself.
"""

import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import expect

from .block_truth import BlockTruth, counts_of, public_id, shown_cells, shown_legend, shown_states
from .conftest import ADMIN_KEY, BLOCK_SIZE, NUM_BLOCKS, NUM_BLOCKS_OF_ROOMY, OpenPage
from .dashboard_page import DashboardPage
from .open_requests import ENDLESS, open_request

pytestmark = pytest.mark.slow
DEADLINE_S = 30.0
Wait = Callable[..., None]


def made_prompt(seed: int, num_tokens: int) -> list[int]:
    """Token ids of no meaning, so that every length is exactly known."""
    return random.Random(seed).choices(range(1000, 40_000), k=num_tokens)


def full_blocks(num_tokens: int) -> int:
    return num_tokens // BLOCK_SIZE


@contextmanager
def emptied(server: Any) -> Iterator[BlockTruth]:
    """What the pool says, after it has forgotten all."""
    server.wait_idle()
    reset_cache(server)
    asked = BlockTruth(server)
    yield asked
    asked.close()
    server.wait_idle()


def complete_map(open_page: OpenPage, server: Any, num_blocks: int) -> Any:
    """The dashboard, with its map complete."""
    board = DashboardPage(open_page(server.url, "/dashboard").page)
    board.wait_for_map()
    assert board.num_cells == num_blocks
    return board.page


@pytest.fixture
def truth(small_server: Any) -> Iterator[BlockTruth]:
    with emptied(small_server) as asked:
        yield asked


@pytest.fixture
def page(open_page: OpenPage, small_server: Any, truth: BlockTruth) -> Any:
    return complete_map(open_page, small_server, NUM_BLOCKS)


@pytest.fixture
def roomy_truth(roomy_server: Any) -> Iterator[BlockTruth]:
    with emptied(roomy_server) as asked:
        yield asked


def complete(server: Any, prompt: list[int], max_tokens: int) -> None:
    """Run one request to its end; its last token is never computed."""
    body = {"prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True, "temperature": 0}
    server.post("/v1/completions", json=body).raise_for_status()
    server.wait_idle()


def reset_cache(server: Any) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    server.post("/reset_prefix_cache", headers=headers).raise_for_status()


def wait_for_cells(page: Any, wait_until: Wait, expected: list[str]) -> None:
    """The page gets to show these states."""
    wait_until(
        lambda: shown_states(page) == expected,
        DEADLINE_S,
        lambda: f"shown:    {shown_states(page)}\nexpected: {expected}",
    )


def assert_true(page: Any, truth: BlockTruth, wait_until: Wait) -> list[dict[str, Any]]:
    """While nothing runs: cells, legend, the pool and /metrics agree. Returns the pool's blocks."""
    blocks = truth.blocks(len(shown_cells(page)))
    states = [block["state"] for block in blocks]
    wait_for_cells(page, wait_until, states)
    counts = counts_of(states)
    assert counts == truth.counts()
    wait_until(lambda: shown_legend(page) == {**counts, "shared": 0}, DEADLINE_S)
    assert all(cell.owner == 0 for cell in shown_cells(page))
    for block in blocks:
        assert (block["hash"] is not None) == (block["state"] == "cached")
        assert (block["holders"], block["text"]) == ([], None)
    return blocks


def test_a_fresh_pool_is_all_free(page: Any, truth: BlockTruth, wait_until: Wait) -> None:
    wait_for_cells(page, wait_until, ["free"] * NUM_BLOCKS)
    assert_true(page, truth, wait_until)
    expect(page.locator("#empty a")).to_have_attribute("href", "./")  # what to do about it
    expect(page.locator("#empty")).to_be_visible()


def test_an_ended_request_leaves_its_full_blocks_cached(
    page: Any, truth: BlockTruth, small_server: Any, wait_until: Wait
) -> None:
    prompt = made_prompt(1, 2 * BLOCK_SIZE + 8)
    complete(small_server, prompt, max_tokens=4)
    blocks = assert_true(page, truth, wait_until)
    assert [block["state"] for block in blocks].count("cached") == 2
    expect(page.locator("#empty")).to_be_hidden()

    complete(small_server, prompt, max_tokens=30)  # 69 tokens computed, 32 of them found
    blocks = assert_true(page, truth, wait_until)
    assert [block["state"] for block in blocks].count("cached") == full_blocks(len(prompt) + 29)


def test_a_common_prefix_is_shared_while_both_run(
    open_page: OpenPage, roomy_truth: BlockTruth, roomy_server: Any, wait_until: Wait
) -> None:
    truth, page = roomy_truth, complete_map(open_page, roomy_server, NUM_BLOCKS_OF_ROOMY)
    prefix = made_prompt(2, 3 * BLOCK_SIZE)
    bodies = [{"prompt": prefix + made_prompt(seed, 5), **ENDLESS} for seed in (3, 4)]
    server, path = roomy_server.url, "/v1/completions"
    with open_request(server, path, bodies[0], x_request_id="first"):
        wait_until(lambda: shown_states(page).count("used") >= 4, DEADLINE_S)
        assert shown_states(page).count("shared") == 0
        (alone,) = {cell.owner for cell in shown_cells(page) if cell.state == "used"}
        assert alone > 0

        with open_request(server, path, bodies[1], x_request_id="second"):
            wait_until(
                lambda: shown_states(page).count("shared") == full_blocks(len(prefix)),
                DEADLINE_S,
                lambda: f"shown: {shown_states(page)}",
            )
            cells = shown_cells(page)
            held = {number: truth.block(number) for number in _numbers(cells, "shared", "used")}
            expect(page.locator("#requests li")).to_have_count(2)
            ids = {item.get_attribute("data-id") for item in page.locator("#requests li").all()}
            running = ids_of_owners(cells, held)
            for number in (_numbers(cells, "used")[0], _numbers(cells, "used")[-1]):
                DashboardPage(page).go_to_block(number)  # the page names the owner, too
                known = public_id(running[cells[number - 1].owner])
                named = re.compile(rf" by {re.escape(known)}$")
                expect(page.locator("block-map")).to_have_attribute("aria-valuetext", named)
            assert server_is_running(roomy_server, 2), "they ended too early for this test"

        shared = [held[number] for number in _numbers(cells, "shared")]
        assert {block["state"] for block in shared} == {"shared"}
        positions = [[holder["position"] for holder in block["holders"]] for block in shared]
        assert sorted(positions) == [[place, place] for place in range(full_blocks(len(prefix)))]
        assert len(running) == 2
        assert set(running.values()) <= ids
        assert running[alone].startswith("cmpl-first")
        wait_until(lambda: shown_states(page).count("shared") == 0, DEADLINE_S)

    roomy_server.wait_idle()
    blocks = assert_true(page, truth, wait_until)
    assert [block["state"] for block in blocks].count("cached") >= full_blocks(len(prefix))


def _numbers(cells: list[Any], *states: str) -> list[int]:
    """The numbers of the blocks whose cells are in one of these states."""
    return [number for number, cell in enumerate(cells, start=1) if cell.state in states]


def ids_of_owners(cells: list[Any], held: dict[int, dict[str, Any]]) -> dict[int, str]:
    """The request of each owner's number; every cell of an owner must be held by that request."""
    ids: dict[int, str] = {}
    for number in _numbers(cells, "used"):
        (holder,) = held[number]["holders"]
        assert ids.setdefault(cells[number - 1].owner, holder["id"]) == holder["id"]
    for number in _numbers(cells, "shared"):
        assert ids[cells[number - 1].owner] in {h["id"] for h in held[number]["holders"]}
    return ids


def server_is_running(server: Any, number: int) -> bool:
    return bool(server.gauge("octavo_num_requests_running") == number)


def test_old_content_is_evicted_for_new(
    page: Any, truth: BlockTruth, small_server: Any, wait_until: Wait
) -> None:
    complete(small_server, made_prompt(5, 4 * BLOCK_SIZE + 1), max_tokens=2)
    old = {block["hash"] for block in assert_true(page, truth, wait_until)} - {None}
    assert len(old) == 4

    before = small_server.gauge("octavo_kv_block_evictions_total")
    for seed in range(6, 9):  # 14 blocks each, 13 of them full
        complete(small_server, made_prompt(seed, 13 * BLOCK_SIZE + 1), max_tokens=2)
    blocks = assert_true(page, truth, wait_until)
    assert not old & {block["hash"] for block in blocks}
    # 4 + 13 + 13 were cached and 10 free when the last request took 14: 10 free ones, and those 4.
    num_cached = [block["state"] for block in blocks].count("cached")
    evictions = small_server.gauge("octavo_kv_block_evictions_total") - before
    assert (num_cached, evictions) == (39, 4)


def test_a_reset_frees_all_cached_blocks(
    page: Any, truth: BlockTruth, small_server: Any, wait_until: Wait
) -> None:
    complete(small_server, made_prompt(9, 5 * BLOCK_SIZE + 1), max_tokens=2)
    wait_until(lambda: shown_states(page).count("cached") == 5, DEADLINE_S)
    reset_cache(small_server)
    wait_for_cells(page, wait_until, ["free"] * NUM_BLOCKS)
    assert_true(page, truth, wait_until)
