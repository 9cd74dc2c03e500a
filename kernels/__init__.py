"""The operations a decoder is made of: for each a torch reference, and faster forms beside it.

What must never come in: models, requests, or anything that knows what a tensor is for.
"""

from .activation import silu_mul
from .kv_write import write_kv
from .norm import add_rms_norm, rms_norm
from .operations import Angles, LinearWeight, Operations, choose_operations
from .paged_attention import (
    AttentionPlan,
    SequenceSpan,
    paged_attention,
    paged_attention_reference,
    plan_attention,
    plan_step,
)
from .rotary import rotate

__all__ = [
    "Angles",
    "AttentionPlan",
    "LinearWeight",
    "Operations",
    "SequenceSpan",
    "add_rms_norm",
    "choose_operations",
    "paged_attention",
    "paged_attention_reference",
    "plan_attention",
    "plan_step",
    "rms_norm",
    "rotate",
    "silu_mul",
    "write_kv",
]
