"""The headers that keep foreign code out of the pages, and that a browser acts on them."""

import re
import socket
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from .chat_page import ChatPage
from .conftest import LAN_NAME, OpenPage
from .dashboard_page import DashboardPage

pytestmark = pytest.mark.slow
UI = Path(__file__).parents[2] / "server" / "ui"
FILES = sorted(path.relative_to(UI).as_posix() for path in UI.rglob("*") if path.is_file())
PAGES = {"/": "index.html", "/dashboard": "dashboard.html"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
# What takes text and makes markup or code of it.
SINKS = re.compile(
    r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|setHTML|srcdoc"
    r"|DOMParser|createContextualFragment)"
)


def assert_guarded(headers: Any) -> None:
    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", PAGES)
def test_pages_come_with_the_strict_policy(server: Any, path: str) -> None:
    answer = server.get(path)
    assert answer.status_code == 200
    assert answer.content == (UI / PAGES[path]).read_bytes()
    assert answer.headers["content-type"].startswith("text/html")
    assert_guarded(answer.headers)


def test_every_file_of_the_pages_comes_with_it_and_as_what_it_is(server: Any) -> None:
    assert len(FILES) > 10
    for name in FILES:
        answer = server.get(f"/ui/{name}")
        assert answer.status_code == 200, name
        assert answer.content == (UI / name).read_bytes(), name
        assert answer.headers["content-type"].split(";")[0] == KINDS[Path(name).suffix], name
        assert_guarded(answer.headers)


class Inline(HTMLParser):
    """Collects what a strict policy forbids in a page's source, and where its files lie."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag == "style" or (tag == "script" and not names.get("src")):
            self.found.append(tag)
        self.found += [n for n in names if n == "style" or n.startswith("on")]
        self.links += [v for n, v in attrs if n in ("src", "href") and v is not None]


@pytest.mark.parametrize("name", PAGES.values())
def test_pages_hold_no_code_and_no_style_of_their_own(name: str) -> None:
    source = Inline()
    source.feed((UI / name).read_text())
    assert source.found == []
    assert source.links
    # A proxy may put a prefix before every path, so none is absolute.
    assert [link for link in source.links if link.startswith("/") or ":" in link] == []


def test_no_script_makes_markup_of_text() -> None:
    scripts = [name for name in FILES if name.endswith(".js")]
    found = [name for name in scripts if SINKS.search((UI / name).read_text())]
    assert scripts and found == []


ATTEMPTS = {
    "an inline script": """
        const made = document.createElement("script");
        try { made.textContent = "window.pwned = 1"; } catch {}
        made.append("window.pwned = 1");
        document.body.append(made);""",
    "a script from elsewhere": """
        const made = document.createElement("script");
        try { made.src = "https://example.com/x.js"; } catch {}
        made.setAttribute("data-x", "");
        document.body.append(made);""",
    "markup out of text": """
        try { document.body.innerHTML = "<img src=x onerror='window.pwned = 1'>"; } catch {}""",
    "a handler in an attribute": """
        const made = document.createElement("button");
        try { made.setAttribute("onclick", "window.pwned = 1"); } catch {}
        document.body.append(made);
        made.click();""",
    "a request elsewhere": "fetch('https://example.com/').catch(() => {});",
    "an image from elsewhere": "new Image().src = 'https://example.com/x.png';",
    "a frame": """
        const made = document.createElement("iframe");
        made.src = "https://example.com/";
        document.body.append(made);""",
    "a base for every link": """
        const made = document.createElement("base");
        made.href = "https://example.com/";
        document.head.append(made);""",
}
TRY = """code => new Promise(resolve => {
  addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective),
    { once: true });
  CODE
  setTimeout(() => resolve(null), 20_000);
})"""


@pytest.mark.parametrize("what", ATTEMPTS)
def test_the_browser_refuses(open_page: OpenPage, server: Any, wait_until: Any, what: str) -> None:
    visit = open_page(server.url)
    directive = visit.page.evaluate(TRY.replace("CODE", ATTEMPTS[what]))
    assert directive is not None, "nothing was refused"
    assert visit.page.evaluate("window.pwned === undefined")

    def has_complained() -> bool:
        visit.page.evaluate("0")  # what the browser has reported is noted meanwhile
        return visit.conduct.complaints != []

    wait_until(has_complained, 20, lambda: "the browser says nothing of it")
    visit.page.goto("about:blank")  # which has no more to complain of
    visit.conduct.forget()  # it had to complain here


def test_a_page_cannot_be_framed(browser: Browser, server: Any) -> None:
    with browser.new_page() as page:
        pages = [f'<iframe src="{server.url}{path}"></iframe>' for path in ("/version", *PAGES)]
        page.set_content("".join(pages))  # which waits until they are loaded or refused
        version, *refused = [frame.url for frame in page.frames[1:]]
        assert version == f"{server.url}/version"
        assert refused == ["chrome-error://chromewebdata/"] * len(PAGES)


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "same-origin"),
        ("localhost", "same-origin"),
        ("x.localhost:8000", "same-origin"),
        ("[::1]:8000", "same-origin"),
        (LAN_NAME, None),
        ("10.0.0.7:8000", None),
    ],
)
def test_opener_policy_where_browsers_take_it(
    server: Any, path: str, host: str, expected: str | None
) -> None:
    answer = server.get(path, headers={"Host": host})
    assert answer.status_code == 200
    assert answer.headers.get("cross-origin-opener-policy") == expected


@pytest.mark.parametrize("path", PAGES)
def test_pages_behave_in_a_network_without_tls(open_page: OpenPage, server: Any, path: str) -> None:
    """No error in the console, which is looked at when a visit ends, and the page works."""
    port = urlsplit(server.url).port
    visit = open_page(f"http://{LAN_NAME}:{port}", path)
    assert visit.page.evaluate("isSecureContext") is False
    if path == "/dashboard":
        DashboardPage(visit.page).wait_for_map()
    else:
        chat = ChatPage(visit.page)
        chat.set(temperature=0, max_tokens=4)
        assert chat.ask("Say something.")


@pytest.mark.parametrize("path", ["/ui/nothing.js", "/ui/", "/ui/chat", "/ui/chat/", "/ui"])
def test_what_is_no_file_is_not_found(server: Any, path: str) -> None:
    answer = server.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/ui/..%2f..%2fpyproject.toml",
        "/ui/%2e%2e/%2e%2e/pyproject.toml",
        "/ui/../../pyproject.toml",
        "/ui/..%5c..%5cpyproject.toml",
        "/ui/chat/../../app.py",
        "/ui//etc/passwd",
        "/ui/%2fetc%2fpasswd",
        "/ui/%00",
    ],
)
def test_no_path_leads_out_of_the_folder(server: Any, path: str) -> None:
    status, body = raw_get(server.url, path)
    assert status == 404, body
    assert b"octavo" not in body.lower() and b"root:" not in body


def raw_get(url: str, path: str) -> tuple[int, bytes]:
    """Ask for a path as it stands; clients would tidy it up first."""
    address = urlsplit(url)
    head = f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]
