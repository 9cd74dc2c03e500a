"""The paths that stay open to everyone at any time: they tell of the server, not of its clients."""

OPEN_PATHS = frozenset({"/health", "/livez", "/readyz", "/ping", "/version", "/metrics"})
