#!/usr/bin/env python3
"""Write the Grafana dashboards of this folder, or check that those written are current.

python deploy/grafana/build_dashboards.py                       # writes dashboards/*.json
python deploy/grafana/build_dashboards.py --check               # exit code 1 if one is stale
python deploy/grafana/build_dashboards.py --prefix vllm: --out FOLDER
"""

import argparse
import json
import sys
from pathlib import Path

from definitions import kv_cache, overview, requests
from definitions.grafana_json import dashboard_json
from definitions.queries import PREFIX

DASHBOARDS = {
    "overview": overview.DASHBOARD,
    "kv-cache": kv_cache.DASHBOARD,
    "requests": requests.DASHBOARD,
}
COMMITTED = Path(__file__).parent / "dashboards"


def main(arguments: list[str] | None = None) -> int:
    """Build what the command line asks for; 1 if `--check` found a difference."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    parser.add_argument("--prefix", default=PREFIX, help="the servers' --metrics-prefix")
    parser.add_argument("--out", type=Path, default=COMMITTED, help="folder to write to")
    options = parser.parse_args(arguments)

    options.out.mkdir(parents=True, exist_ok=True)
    stale = []
    for name, dashboard in DASHBOARDS.items():
        path = options.out / f"{name}.json"
        text = json.dumps(dashboard_json(dashboard, options.prefix), indent=2) + "\n"
        if path.exists() and path.read_text() == text:
            continue
        stale.append(str(path))
        if not options.check:
            path.write_text(text)
    for path_name in stale:
        print(f"stale: {path_name}" if options.check else f"wrote {path_name}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
