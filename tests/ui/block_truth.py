"""The blocks of a server as the pool itself tells of them, and as a page shows them."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import httpx
from playwright.sync_api import Page

STATES = ("free", "cached", "used", "shared")


@dataclass(frozen=True)
class Cell:
    """One cell of the map: the state of a block, and the number of the request that owns it."""

    state: str
    owner: int


def shown_cells(page: Page) -> list[Cell]:
    """What the map of a dashboard shows, cell 0 being block 1."""
    values = page.evaluate("Array.from(document.querySelector('block-map').cells ?? [])")
    return [Cell(STATES[value % 4], value // 4) for value in values]


def shown_states(page: Page) -> list[str]:
    return [cell.state for cell in shown_cells(page)]


def shown_legend(page: Page) -> dict[str, int]:
    """The legend's numbers by state."""
    return {
        state: int(page.inner_text(f"#legend [data-state={state}] .number").replace(",", ""))
        for state in STATES
    }


def public_id(engine_id: str) -> str:
    """A request's id as its client knows it: without the 16 digits that make it unique."""
    client_id, digits = engine_id.rsplit("-", 1)
    assert len(digits) == 16, engine_id
    return client_id


class BlockTruth:
    """Asks a server for its blocks one by one, which the feed of the page has no part in."""

    def __init__(self, server: Any, key: str | None = None) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._server = server
        self._client = httpx.Client(base_url=server.url, headers=headers, timeout=60, verify=False)

    def close(self) -> None:
        self._client.close()

    def block(self, number: int) -> dict[str, Any]:
        """Everything about one block."""
        answer = self._client.get(f"/dashboard/blocks/{number}")
        return dict(answer.raise_for_status().json())

    def blocks(self, num_blocks: int) -> list[dict[str, Any]]:
        """Everything about each block, block 1 first."""
        return [self.block(number) for number in range(1, num_blocks + 1)]

    def counts(self) -> dict[str, float]:
        """free, cached and used (shared ones included) as /metrics counts them."""
        return {
            state: self._server.gauge(f"octavo_kv_blocks_{state}")
            for state in ("free", "cached", "used")
        }


def counts_of(states: list[str]) -> dict[str, float]:
    """The same counts from the states of cells."""
    found = Counter(states)
    return {
        "free": found["free"],
        "cached": found["cached"],
        "used": found["used"] + found["shared"],
    }
