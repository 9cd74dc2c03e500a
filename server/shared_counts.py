"""What all front ends of one engine have counted, whichever of them is asked.

prometheus_client has no types for its files of several processes: hence what is ignored here.
"""

from prometheus_client import CollectorRegistry, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector


def count_in_place(place: int) -> None:
    """Count where whoever had this place before has counted: its sums go on.

    Call it before any metric is made.
    """
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]


class SharedCounts:
    """Sums of every front end's counters and histograms, those that are gone included.

    prometheus_client keeps them in files in the folder PROMETHEUS_MULTIPROC_DIR, if that was set
    when it was imported.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._collector = MultiProcessCollector(self.registry)  # type: ignore[no-untyped-call]
        self._families: dict[str, Metric] = {}

    def add_up(self) -> None:
        """Let `family` tell of now."""
        self._families = {
            family.name: family
            for family in self._collector.collect()  # type: ignore[no-untyped-call]
        }

    def family(self, name: str) -> Metric:
        """A counter or histogram by its full name, as of the last `add_up`.

        It is empty where the files are gone, as they are when everything ends.
        """
        return self._families.get(name) or Metric(name, "", "unknown")
