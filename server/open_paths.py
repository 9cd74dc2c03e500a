"""The paths that stay open to everyone at any time: they tell of the server, not of its clients."""

OPEN_PATHS = frozenset({"/health", "/livez", "/readyz", "/ping", "/version", "/metrics"})
_PAGES = frozenset({"/", "/dashboard"})


def is_page(path: str) -> bool:
    """Whether this is a page or a file of it, which hold nothing of the server's own."""
    return path in _PAGES or path.startswith("/ui/")


def is_watching(path: str) -> bool:
    """Whether this only looks on: it is no work that the server's end waits for."""
    return path in OPEN_PATHS or is_page(path) or path.startswith("/dashboard/")
