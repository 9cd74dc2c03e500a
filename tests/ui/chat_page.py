"""The chat page as its reader works it."""

import json
from typing import Any

from playwright.sync_api import Locator, Page, Request, Route, expect

from .open_requests import ENDLESS

COMPLETIONS = "**/v1/chat/completions"


class ChatPage:
    """Types, clicks and reads; `bodies` are the requests that went out."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.bodies: list[dict[str, Any]] = []
        page.on("request", self._note)

    def _note(self, request: Request) -> None:
        if request.url.endswith("/v1/chat/completions"):
            self.bodies.append(request.post_data_json or {})

    @property
    def answers(self) -> Locator:
        return self.page.locator("#conversation li[data-role=assistant]")

    @property
    def last(self) -> Locator:
        return self.answers.last

    def set(self, **values: object) -> None:
        """Fill parameters in: `set(temperature=0, max_tokens=24)`."""
        for name, value in values.items():
            field = self.page.locator(f"#parameters [name={name}]")
            if isinstance(value, bool):
                field.set_checked(value)
            else:
                field.fill(str(value))

    def answer_endlessly(self) -> None:
        """From now on answers go on until they are stopped."""
        self.page.route(COMPLETIONS, _continue_endless)

    def answer_as_asked(self) -> None:
        """From now on answers end again."""
        self.page.unroute(COMPLETIONS, _continue_endless)

    def begin_anew(self) -> None:
        """Click New chat."""
        self.page.click("#new-chat")
        expect(self.page.locator("#conversation li")).to_have_count(0)

    def send(self, text: str) -> None:
        """Type a message and click Send; the answer need not have begun."""
        before = self.answers.count()
        self.page.fill("#prompt", text)
        self.page.click("#send")
        expect(self.answers).to_have_count(before + 1)

    def ask(self, text: str) -> str:
        """Send a message and wait for the end of its answer. Returns the answer's text."""
        self.send(text)
        self.wait_for("done")
        return self.text()

    def wait_for(self, state: str) -> None:
        """Wait until the last answer is in this state."""
        expect(self.last).to_have_attribute("data-state", state, timeout=60_000)

    def text(self) -> str:
        """The last answer, exactly."""
        return self.last.locator(".text").text_content() or ""

    def figures(self) -> dict[str, str]:
        """The line of figures under the last answer."""
        line = self.last.locator(".figures")
        names, values = (line.locator(tag).all_inner_texts() for tag in ("dt", "dd"))
        return dict(zip(names, values, strict=True))


def _continue_endless(route: Route) -> None:
    body = {**(route.request.post_data_json or {}), **ENDLESS}
    route.continue_(post_data=json.dumps(body))


def plain_body(body: dict[str, Any]) -> dict[str, Any]:
    """The same request for an answer in one piece."""
    return {name: value for name, value in body.items() if not name.startswith("stream")}
