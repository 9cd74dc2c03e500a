"""PromQL over Octavo's metrics, filtered by the dashboards' variables.

Names are written with the default prefix `octavo_`; `with_prefix` turns them into another's.
"""

import re

PREFIX = "octavo_"
_OURS = 'model_name=~"$model",instance=~"$instance"'
_HTTP = 'instance=~"$instance"'  # HTTP and process metrics know no model
_WINDOW = "[$__rate_interval]"


def gauge(name: str, matchers: str = "") -> str:
    """The gauge's series of the chosen models and instances."""
    return f"{PREFIX}{name}{{{_joined(_OURS, matchers)}}}"


def process(name: str, matchers: str = "") -> str:
    """A series of the HTTP layer or the process, of the chosen instances; the name is whole."""
    return f"{name}{{{_joined(_HTTP, matchers)}}}"


def total(expression: str, by: str = "") -> str:
    """The sum over all series, or for each value of the labels `by`."""
    return f"sum{_by(by)}({expression})"


def largest(expression: str, by: str = "") -> str:
    """The greatest value of all series, or for each value of the labels `by`."""
    return f"max{_by(by)}({expression})"


def rate(counter: str, by: str = "", matchers: str = "") -> str:
    """How fast one of Octavo's counters grows, a second; without the suffix `_total`."""
    return total(f"rate({gauge(f'{counter}_total', matchers)}{_WINDOW})", by)


def rate_of(series: str, by: str = "") -> str:
    """How fast the counter series grow, a second."""
    return total(f"rate({series}{_WINDOW})", by)


def quantile(q: float, histogram: str, by: str = "", matchers: str = "") -> str:
    """The `q`-quantile of what one of Octavo's histograms saw."""
    labels = _joined("le", by)
    buckets = rate_of(gauge(f"{histogram}_bucket", matchers), labels)
    return f"histogram_quantile({q}, {buckets})"


def http_quantile(q: float, histogram: str, by: str = "") -> str:
    """The `q`-quantile of a histogram of the HTTP layer."""
    buckets = rate_of(process(f"{histogram}_bucket"), _joined("le", by))
    return f"histogram_quantile({q}, {buckets})"


def mean(histogram: str, by: str = "", matchers: str = "") -> str:
    """The mean of what one of Octavo's histograms saw; no value while it saw nothing."""
    sums = rate_of(gauge(f"{histogram}_sum", matchers), by)
    counts = rate_of(gauge(f"{histogram}_count", matchers), by)
    return f"{sums} / ({counts} > 0)"


def observations(histogram: str, by: str = "") -> str:
    """How many values a second one of Octavo's histograms saw."""
    return rate_of(gauge(f"{histogram}_count"), by)


def buckets(histogram: str) -> str:
    """What a heat map draws: how many values a second fell into each bucket."""
    return rate_of(gauge(f"{histogram}_bucket"), "le")


def share(part: str, whole: str) -> str:
    """`part` divided by `whole`; no value while the whole is 0."""
    return f"{part} / ({whole} > 0)"


def or_zero(expression: str) -> str:
    """The expression without labels, and 0 where it has no series yet."""
    return f"({expression}) or vector(0)"


def with_prefix(expression: str, prefix: str) -> str:
    """The expression for a server with another `--metrics-prefix`."""
    renamed = re.sub(rf"\b{PREFIX}", prefix, expression)
    if ":" in prefix:  # the server itself makes this one exception for vLLM's dashboards
        renamed = renamed.replace(f"{prefix}iteration_tokens_", f"{prefix}iteration_tokens_total_")
    return renamed


def _joined(first: str, second: str) -> str:
    return f"{first},{second}" if second else first


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""
