"""The dashboard as its reader works it."""

import re
from typing import Any

from playwright.sync_api import Locator, Page, expect

_A_NUMBER = re.compile(r"\d")
_NEXT_FRAME_BUT_ONE = (
    "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
)


def wait_for_layout(page: Page) -> None:
    """Until the page has painted what it knows, and what observes sizes has acted on it."""
    page.evaluate(_NEXT_FRAME_BUT_ONE)


class DashboardPage:
    """Reads figures, the map and the requests; moves the map's cursor by keys."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @property
    def block_map(self) -> Locator:
        return self.page.locator("block-map")

    @property
    def detail(self) -> Locator:
        return self.page.locator("#block-detail")

    @property
    def rows(self) -> Locator:
        """The rows of requests that wait or run."""
        return self.page.locator(
            "#requests li[data-stage=queue], #requests li[data-stage=prefill], "
            "#requests li[data-stage=decode]"
        )

    @property
    def num_cells(self) -> int:
        return int(self.page.evaluate("document.querySelector('block-map').cells.length"))

    def figure(self, name: str) -> Locator:
        return self.page.locator(f".figure[data-name={name}] .figure-value .number")

    def wait_for_map(self) -> None:
        """Until the first frame has given every cell its state."""
        expect(self.page.locator("#legend [data-state=free] .number")).to_have_text(_A_NUMBER)

    def choose_colours(self, mode: str) -> None:
        """Colour by `state`, `request` or `age`."""
        radio = self.page.locator(f"input[name=colour][value={mode}]")
        radio.check(force=True)  # its label is what is seen
        expect(radio).to_be_checked()

    def go_to_block(self, number: int) -> None:
        """Move the cursor to a block, by keys."""
        columns = self.page.evaluate("document.querySelector('block-map').layout.columns")
        rows_down, cells_right = divmod(number - 1, columns)
        self.block_map.focus()
        self.page.keyboard.press("Home")
        for _ in range(rows_down):
            self.page.keyboard.press("ArrowDown")
        for _ in range(cells_right):
            self.page.keyboard.press("ArrowRight")
        expect(self.block_map).to_have_attribute("aria-valuenow", str(number))

    def blocks_in(self, *states: int) -> list[int]:
        """Numbers of the blocks whose cells are in these states: 0 free … 3 shared."""
        cells: list[Any] = self.page.evaluate(
            "Array.from(document.querySelector('block-map').cells)"
        )
        return [number for number, value in enumerate(cells, start=1) if value % 4 in states]
