"""The chat page and the dashboard: files, and the headers that keep strangers' scripts out."""

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
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # which allows 304 by ETag
}

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
    return response
