"""What the load generator raises."""


class BenchError(Exception):
    """A measurement cannot be made as asked; the message says what to change."""
