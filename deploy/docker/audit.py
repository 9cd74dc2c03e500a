"""Asks whether the locked packages have known vulnerabilities: `make audit`.

pip-audit asks the advisory services about every version in the lock files. Where none of them can
be reached, or an index does not know the packages, pip-audit finds nothing and says so cheerfully;
here that is not taken for an answer. What can be checked without a network is checked always:
every version is pinned by hash, and none is older than `advisories.txt` allows.

Exit code 1 for a finding that `audit-explained.txt` does not explain; 0 otherwise, also when
nobody could be asked, which the last line tells.
"""

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SERVICES = ("pypi", "osv")
ASKING_TIMEOUT_S = 300
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")


@dataclass
class Verdict:
    """What the services said."""

    num_known: int = 0
    findings: list[tuple[str, str, set[str]]] = field(default_factory=list)  # name, version, ids
    problems: list[str] = field(default_factory=list)  # why a service gave no answer


def read_pins(lock_file: str) -> tuple[set[tuple[str, str]], list[str]]:
    """Names and versions in a lock file, and the names that no hash is given for."""
    pins, unhashed = set(), []
    for entry in re.split(r"\n(?=\S)", lock_file):
        match = _PIN.match(entry)
        if match is None:
            continue
        # The local part of a version ("+cpu") is the builder's; advisories know none.
        pins.add((match.group(1).lower(), match.group(2).split("+")[0]))
        if "--hash=sha256:" not in entry:
            unhashed.append(match.group(1))
    return pins, unhashed


def read_table(text: str, num_columns: int) -> list[list[str]]:
    """Lines of so many columns, the last with spaces; without those that begin with #."""
    lines = [line.strip() for line in text.splitlines()]
    return [line.split(None, num_columns - 1) for line in lines if line and line[0] != "#"]


def older_than(version: str, floor: str) -> bool:
    """Whether a version comes before another, by their numbers."""
    return _numbers(version) < _numbers(floor)


def judge(report: dict[str, Any]) -> Verdict:
    """The verdict in a JSON report of pip-audit's."""
    verdict = Verdict()
    for dependency in report["dependencies"]:
        if "skip_reason" in dependency:
            continue
        verdict.num_known += 1
        for one in dependency["vulns"]:
            ids = {one["id"], *one.get("aliases", ())}
            verdict.findings.append((dependency["name"], dependency["version"], ids))
    return verdict


def ask(pins: set[tuple[str, str]]) -> Verdict:
    """What the first service says that knows the packages."""
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "requirements.txt"
        wanted.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins)))
        for service in SERVICES:
            command = [sys.executable, "-m", "pip_audit", "--requirement", str(wanted)]
            command += ["--no-deps", "--disable-pip", "--format", "json", "--aliases", "on"]
            command += ["--vulnerability-service", service, "--progress-spinner", "off"]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=ASKING_TIMEOUT_S, check=False
                )
                verdict = judge(json.loads(done.stdout))
            except subprocess.TimeoutExpired:
                problems.append(f"{service}: no answer in {ASKING_TIMEOUT_S} s")
                continue
            except ValueError:
                last = (done.stderr.strip().splitlines() or ["no output"])[-1]
                problems.append(f"{service}: {last[:160]}")
                continue
            if verdict.num_known:
                verdict.problems = problems
                return verdict
            problems.append(f"{service}: knows none of the packages")
    return Verdict(problems=problems)


def main() -> int:
    """Print what was found. Returns the exit code."""
    pins: set[tuple[str, str]] = set()
    faults = []
    for path in sorted(HERE.glob("requirements-*.lock")):
        more, unhashed = read_pins(path.read_text())
        pins |= more
        faults += [f"{path.name}: {name} has no hash" for name in unhashed]
    floors = read_table((HERE / "advisories.txt").read_text(), 3)
    for name, floor, advisory in floors:
        for pinned, version in sorted(pins):
            if pinned == name and older_than(version, floor):
                faults.append(f"{name} {version} is older than {floor}: {advisory}")
    reasons = {row[0]: row[1] for row in read_table((HERE / "audit-explained.txt").read_text(), 2)}
    verdict = ask(pins)
    for name, version, ids in verdict.findings:
        known = sorted(ids & reasons.keys())
        text = f"{name} {version}: {', '.join(sorted(ids))}"
        if known:
            print(f"explained: {text}: {reasons[known[0]]}")
        else:
            faults.append(text)
    for fault in faults:
        print(f"FINDING: {fault}")
    print(f"{len(pins)} locked packages, each by hash; {len(floors)} advisories on file")
    if verdict.num_known:
        print(f"audited: {verdict.num_known} of {len(pins)} are known to the advisory service")
    else:
        print(f"NOT AUDITED against current advisories: {'; '.join(verdict.problems)}")
    return 1 if faults else 0


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0]))


if __name__ == "__main__":
    sys.exit(main())
