"""Takes the pictures of the pages kept in docs/images/, at two widths and in both themes.

.venv/bin/python docs/screenshots.py [--url URL] [--into FOLDER]

Needs Chromium (apt-get install chromium) and Playwright for Python. Without --url a server is
started for it, and traffic of three minutes gives the dashboard something to show.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, expect, sync_playwright

from octavo.bench.startup import free_port

IMAGES = Path(__file__).parent / "images"
SIZES = {375: 812, 1600: 1000}
THEMES = ("light", "dark")
START_S, PATIENCE_S = 180.0, 60.0
QUESTION = "Write four lines about a lighthouse."
ADMIN_KEY = "screenshots"
FLAGS = ("--num-blocks", "571", "--max-model-len", "2048", "--max-num-seqs", "5")

LIBRARY = (
    "You answer for the library of a small town. Be brief and kind. The library is open from "
    "Tuesday to Saturday, nine to six. Books are lent for four weeks, films for one, and both may "
    "be kept twice as long if nobody else waits for them. Children need no card. The reading room "
    "has forty seats, of which eight have a lamp and a socket. Whoever loses a book brings "
    "another that is as good. "
)
VISITORS = (
    "May I keep a film for three weeks?",
    "Where can I read in the evening?",
    "My daughter is seven. Does she need a card?",
    "I have lost a book about bees. What now?",
    "Which day is the library closed?",
    "Tell me, at length, how a book finds its way back to its shelf.",
    "Write a long poem about the reading room.",
)


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="a running server without a key; else one is started")
    parser.add_argument("--into", type=Path, default=IMAGES, help="folder of the pictures")
    parser.add_argument("--traffic", type=float, default=180.0, help="seconds of traffic")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        url = options.url or stack.enter_context(started_server())
        browser = stack.enter_context(chromium())
        ask(url, 0, 1)  # so that no picture shows the first request of all
        take(browser, url, "/", options.into / "page-chat", show_answer)
        make_history(url, options.traffic)
        stack.enter_context(open_requests(url))
        take(browser, url, "/dashboard", options.into / "page-dashboard", show_blocks)


@contextmanager
def started_server() -> Iterator[str]:
    """A server with few enough blocks to tell them apart; its address."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "octavo", "serve", *FLAGS, "--port", str(port)]
    command += ["--admin-key", ADMIN_KEY]
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    silence = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=silence, stderr=silence) as process:
        try:
            wait_until(lambda: is_ready(url), START_S)
            yield url
        finally:
            process.terminate()


def is_ready(url: str) -> bool:
    """Whether the server has its model."""
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], bool], deadline_s: float) -> None:
    """Poll; TimeoutError after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {deadline_s:g} s")
        time.sleep(0.1)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium without a window."""
    found = shutil.which("chromium")
    if found is None:
        sys.exit("screenshots need Chromium: apt-get install chromium")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    expect.set_options(timeout=PATIENCE_S * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=sandbox)
        yield browser
        browser.close()


def take(
    browser: Browser, url: str, path: str, name: Path, prepare: Callable[[Page], None]
) -> None:
    """One picture for each width and theme, each of a page opened anew."""
    for width, height in SIZES.items():
        for theme in THEMES:
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if theme == "dark" else "light",
                reduced_motion="reduce",
                locale="en-GB",
            )
            page.set_default_timeout(PATIENCE_S * 1000)
            page.goto(url + path)
            prepare(page)
            picture = name.with_name(f"{name.name}-{width}-{theme}.png")
            page.screenshot(path=picture)
            print(f"{picture} {picture.stat().st_size / 1000:.0f} kB")
            page.close()


def show_answer(page: Page) -> None:
    """An answer with its figures, and the least certain token of its second half looked at."""
    expect(page.locator("#model")).not_to_be_empty()
    page.eval_on_selector_all(
        "#parameters [name=temperature], #parameters [name=max_tokens]",
        "fields => fields.forEach(field => { field.value = field.name === 'temperature' ? 0 : 160; "
        "field.dispatchEvent(new Event('input', { bubbles: true })); })",
    )
    page.fill("#prompt", QUESTION)
    page.press("#prompt", "Enter")
    answer = page.locator("#conversation li[data-role=assistant]")
    expect(answer).to_have_attribute("data-state", "done")
    chances = answer.locator(".token").evaluate_all(
        "tokens => tokens.map(token => Number(token.dataset.probability)).reverse()"
    )
    half = chances[: len(chances) // 2]
    answer.locator(".text").focus()
    page.keyboard.press("End")
    for _ in range(half.index(min(half))):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#inspector")).to_be_visible()


def ask(url: str, visitor: int, max_tokens: int) -> None:
    """One question to the library, to its end."""
    httpx.post(
        f"{url}/v1/chat/completions", json=question(visitor, max_tokens), timeout=300
    ).raise_for_status()


def question(visitor: int, max_tokens: int) -> dict[str, object]:
    """The body of a request whose beginning all others share."""
    text = VISITORS[visitor % len(VISITORS)]
    return {
        "messages": [
            {"role": "system", "content": LIBRARY},
            {"role": "user", "content": f"{text} (visitor {visitor})"},
        ],
        "max_tokens": max_tokens,
        "temperature": 0,
    }


def make_history(url: str, seconds: float) -> None:
    """Waves of questions, one to six at once, for the lines of the last minutes.

    Then the cache is emptied, where that is allowed, so that some blocks are free again.
    """
    end = time.monotonic() + seconds
    visitor = 0
    with ThreadPoolExecutor(6) as pool:
        while time.monotonic() < end:
            for at_once in (1, 2, 4, 6, 3):
                numbers = range(visitor, visitor + at_once)
                list(pool.map(lambda number: ask(url, number, 8 + number % 5 * 8), numbers))
                visitor += at_once
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    httpx.post(f"{url}/reset_prefix_cache", headers=admin)
    for visitor in range(40):
        ask(url, visitor, 24)


@contextmanager
def open_requests(url: str) -> Iterator[None]:
    """Six long answers at once, of which one waits; until the block is left."""
    with httpx.Client(timeout=300) as client, ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        for visitor in range(1000, 1005):
            body = {**question(visitor, 900), "ignore_eos": True, "stream": True}
            stream = client.stream("POST", f"{url}/v1/chat/completions", json=body)
            stack.enter_context(stream)  # nothing is read of it
        waits = {"prompt": LIBRARY, "max_tokens": 1}
        answer = pool.submit(client.post, f"{url}/v1/completions", json=waits)
        yield
        stack.close()
        answer.result()


def show_blocks(page: Page) -> None:
    """A map coloured by request, and a shared block looked at."""
    expect(page.locator("#requests li[data-stage=decode]")).to_have_count(5)
    page.locator("input[name=colour][value=request]").check(force=True)
    shared = page.evaluate(
        "Array.from(document.querySelector('block-map').cells).findIndex(cell => cell % 4 === 3)"
    )
    page.locator("block-map").focus()
    page.keyboard.press("Home")
    for _ in range(shared):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#block-detail dl")).to_contain_text("hash", ignore_case=True)
    size = page.viewport_size
    top = "#map-panel" if size is not None and size["width"] < 900 else "header"
    page.locator(top).evaluate("element => element.scrollIntoView()")


if __name__ == "__main__":
    main()
