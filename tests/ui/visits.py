"""A page open in a real browser, and what it did that nobody in front of it sees."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response

WIDE = (1600, 1000)
NARROW = (375, 812)
PATIENCE_MS = 20_000
_LOST_CONNECTION = re.compile(
    r"net::ERR_(CONNECTION_\w+|EMPTY_RESPONSE|INCOMPLETE_CHUNKED_ENCODING|SOCKET_NOT_CONNECTED)"
)


@dataclass
class Conduct:
    """The requests of a page, and whatever a page in order has none of."""

    origin: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    _allowed: list[re.Pattern[str]] = field(default_factory=list)

    def allow_statuses(self, *statuses: int) -> None:
        """Answers with these statuses, and the console's line about each, are part of the test."""
        self._allowed += [re.compile(rf"status (of )?{status}\b") for status in statuses]

    def allow_lost_connections(self) -> None:
        """The test cuts connections."""
        self._allowed.append(_LOST_CONNECTION)

    def forget(self) -> None:
        """Begin anew: what was done until now was provoked."""
        self.requests.clear()
        self.complaints.clear()

    def check(self) -> None:
        """Assert: no error or warning, nothing failed, and no request left the server's origin."""
        abroad = [url for url in self.requests if _origin(url) != self.origin]
        assert not abroad, f"requests to others than {self.origin}: {abroad}"
        unwanted = [
            line for line in self.complaints if not any(p.search(line) for p in self._allowed)
        ]
        assert not unwanted, "\n".join(unwanted)

    def listen_to(self, context: BrowserContext) -> None:
        """Write down what every page of this context does from now on."""
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("response", self._note_response)
        context.on("requestfailed", self._note_failure)
        context.on("console", self._note_message)
        context.on("weberror", lambda found: self.complaints.append(f"page error: {found.error}"))

    def _note_response(self, response: Response) -> None:
        if response.status >= 400:
            self.complaints.append(f"status {response.status}: {response.url}")

    def _note_failure(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # which is a page that stops, or goes
            self.complaints.append(f"failed: {request.url}: {request.failure}")

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self.complaints.append(f"console {message.type}: {message.text}")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


@dataclass
class Visit:
    """One page of a server in a browser's context of its own."""

    page: Page
    conduct: Conduct
    context: BrowserContext
    is_open: bool = True

    def close(self) -> None:
        """Leave, once; whatever the page did wrong until now fails the test."""
        if not self.is_open:
            return
        self.is_open = False
        self.context.close()
        self.conduct.check()


def open_visit(
    browser: Browser,
    url: str,
    path: str = "/",
    *,
    size: tuple[int, int] = WIDE,
    theme: str = "light",
    reduced_motion: str = "no-preference",
    bypass_csp: bool = False,
    before: Callable[[Page], None] | None = None,
) -> Visit:
    """Open `path` of the server at `url`; `before` sees the page while it is still blank."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=theme,  # type: ignore[arg-type]
        reduced_motion=reduced_motion,  # type: ignore[arg-type]
        bypass_csp=bypass_csp,
        locale="en-GB",
    )
    context.set_default_timeout(PATIENCE_MS)
    conduct = Conduct(_origin(url))
    conduct.listen_to(context)
    page = context.new_page()
    if before is not None:
        before(page)
    page.goto(url + path)
    return Visit(page, conduct, context)
