"""What a server's processes hold, read from /proc: memory, descriptors, threads."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Holding:
    """Of one process. `anonymous_kib`: memory that is not a file's, and resident."""

    anonymous_kib: int
    num_descriptors: int
    num_threads: int


def holding_of(pid: int) -> Holding:
    """What this process holds now."""
    folder = Path(f"/proc/{pid}")
    fields = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    return Holding(
        anonymous_kib=int(fields["RssAnon"].split()[0]),
        num_descriptors=len(list((folder / "fd").iterdir())),
        num_threads=int(fields["Threads"]),
    )


def slope(points: list[tuple[float, float]]) -> float:
    """Least squares: how much the second number rises with each one of the first."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
