"""Octavo beside other servers: same machine, same weights, same prompts, one load generator.

Here live the workloads, how each server is started, the run over all of them, and its report. Load
comes from `octavo.bench`, which treats every server alike. `benchmarks/README.md` says how to get
the peers and how to read the figures.
"""

from .figures import Figures, Measurement, Summary, summarise
from .systems import System
from .workloads import WORKLOADS, ComparedWorkload

__all__ = [
    "WORKLOADS",
    "ComparedWorkload",
    "Figures",
    "Measurement",
    "Summary",
    "System",
    "summarise",
]
