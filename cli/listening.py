"""The sockets that the HTTP servers listen on."""

import socket

from ..engine.errors import ConfigurationError


def listen(host: str, port: int) -> socket.socket:
    """Bind before loading anything, so that a taken port is known at once.

    Raises ConfigurationError if it is.
    """
    return _bound(host, port, shares=False)


def listen_together(host: str, port: int, count: int) -> list[socket.socket]:
    """Sockets of one port; Linux spreads connections evenly over those that listen.

    Raises ConfigurationError if somebody else has the port.
    """
    with listen(host, port) as probe:  # sockets that share do not notice another server's
        chosen = probe.getsockname()[1]
    listeners = [_bound(host, chosen, shares=True) for _ in range(count)]
    for listener in listeners:
        listener.listen()  # or a server that starts meanwhile would find the port free
    return listeners


def _bound(host: str, port: int, *, shares: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shares:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or --host"
        ) from None
    listener.set_inheritable(False)
    return listener
