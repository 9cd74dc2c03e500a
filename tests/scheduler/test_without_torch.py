"""The scheduler and the bookkeeping half of the cache are pure Python, and stay so."""

import subprocess
import sys

SCRIPT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "numpy", "triton"}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
from octavo.paged_cache import BlockPool
from octavo.scheduler import Request, Scheduler, StopRule

scheduler = Scheduler(
    BlockPool(8), 4, max_num_batched_tokens=16, max_num_seqs=2, max_model_len=16
)
scheduler.add(Request("a", [1, 2, 3], StopRule(max_tokens=1, max_total_tokens=16)))
batch = scheduler.schedule()
scheduler.update(batch, {"a": 5})
assert not scheduler.has_work
assert "torch" not in sys.modules
assert "numpy" not in sys.modules
print("runs")
"""


def test_a_request_is_served_where_torch_cannot_be_imported():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("runs\n", "")
