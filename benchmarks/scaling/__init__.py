"""How cost grows with load: measured curves, each with its figures, a chart and a table.

Here live four curves: throughput against concurrency, step time against context, the books of the
block pool against the number of cached blocks, and a scheduling step against queue length and
running requests. What compares Octavo with other servers is in `benchmarks/compare`.
"""

from .curve import Curve, Panel, Series
from .sizes import SIZES, TINY_SIZES, Sizes

__all__ = ["SIZES", "TINY_SIZES", "Curve", "Panel", "Series", "Sizes"]
