"""From which values on panels warn; red is where the alert rules (deploy/prometheus/rules) fire."""

from .panels import Threshold

TTFT_SECONDS = (Threshold(2, "yellow"), Threshold(5, "red"))
FAILED_SHARE = (Threshold(0.01, "yellow"), Threshold(0.05, "red"))
KV_USAGE = (Threshold(0.8, "yellow"), Threshold(0.95, "red"))
STEP_AGE_SECONDS = (Threshold(10, "yellow"), Threshold(30, "red"))
RECOMPUTED_SHARE = (Threshold(0.05, "yellow"), Threshold(0.2, "red"))
