"""How many files the process may have open: each connection is one."""

import logging
import resource

logger = logging.getLogger("octavo")

NUM_OWN_FILES = 128  # models, libraries, sockets to the engine, and connections in excess


def allow_connections(wanted: int) -> int:
    """Raise the process's soft limit so that `wanted` connections fit. Returns how many do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + NUM_OWN_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    fitting = max(1, max(allowed, soft) - NUM_OWN_FILES)
    if fitting < wanted:
        logger.warning(
            "--max-connections %d: the system allows %d open files (ulimit -n), so %d is the limit",
            wanted,
            allowed,
            fitting,
        )
    return fitting
