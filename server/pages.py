"""The chat page and the dashboard: files, and the headers that keep strangers' scripts out."""

import ipaddress
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles

# Nothing but our own files; no text becomes markup or code by way of any DOM function.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # which allows 304 by ETag
}
OPENER_POLICY = {"Cross-Origin-Opener-Policy": "same-origin"}

router = APIRouter(include_in_schema=False)
_files = StaticFiles(directory=Path(__file__).parent / "ui")


@router.api_route("/", methods=["GET", "HEAD"])
async def chat_page(request: Request) -> Response:
    """The chat."""
    return await _file("index.html", request)


@router.api_route("/dashboard", methods=["GET", "HEAD"])
async def dashboard_page(request: Request) -> Response:
    """The dashboard."""
    return await _file("dashboard.html", request)


@router.api_route("/ui/{path:path}", methods=["GET", "HEAD"])
async def asset(path: str, request: Request) -> Response:
    """A script, a stylesheet or an image of theirs."""
    return await _file(path, request)


async def _file(path: str, request: Request) -> Response:
    response = await _files.get_response(path, request.scope)
    response.headers.update(HEADERS)
    if _is_trustworthy(request):
        response.headers.update(OPENER_POLICY)
    return response


def _is_trustworthy(request: Request) -> bool:
    """Whether browsers trust the origin; elsewhere the opener's policy is an error in their log.

    https://w3c.github.io/webappsec-secure-contexts/#is-origin-trustworthy
    """
    host = request.url.hostname or ""
    if request.url.scheme == "https" or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
