"""The load generator behind `octavo bench`: loads an OpenAI-compatible endpoint and reports.

Here live workloads, the streaming client, closed and open loops, figures, charts and reports. It
speaks HTTP to whatever serves and imports no other room, so that it measures every server alike.
"""

from .endpoint import Endpoint, served_model
from .errors import BenchError
from .load import Limit, Progress, run_closed_loop, run_open_loop, warm_up
from .records import GaugeSample, Load, RequestRecord, Run
from .summary import Distribution, Goodput, Summary, summarise
from .workloads import (
    Conversation,
    MultiTurn,
    RandomPrompts,
    SharedPrefix,
    ShareGPT,
    Turn,
    Workload,
)

__all__ = [
    "BenchError",
    "Conversation",
    "Distribution",
    "Endpoint",
    "GaugeSample",
    "Goodput",
    "Limit",
    "Load",
    "MultiTurn",
    "Progress",
    "RandomPrompts",
    "RequestRecord",
    "Run",
    "ShareGPT",
    "SharedPrefix",
    "Summary",
    "Turn",
    "Workload",
    "run_closed_loop",
    "run_open_loop",
    "served_model",
    "summarise",
    "warm_up",
]
