"""The audit of dependencies: an answer that is none must not pass for a good one."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "deploy" / "docker"


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", FOLDER / "audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOCK = """# by hand
one==1.2.3 \\
    --hash=sha256:00 \\
    --hash=sha256:11
    # via two
Two==2.0+cpu ; python_version < "3.12" \\
    --hash=sha256:22
three==3.0
    # via one
"""


def test_pins_are_read_and_a_missing_hash_is_seen(audit: ModuleType) -> None:
    pins, unhashed = audit.read_pins(LOCK)
    assert pins == {("one", "1.2.3"), ("two", "2.0"), ("three", "3.0")}
    assert unhashed == ["three"]


@pytest.mark.parametrize(
    ("version", "floor", "is_older"),
    [
        ("3.1.5", "3.1.6", True),
        ("3.1.6", "3.1.6", False),
        ("3.10", "3.9.9", False),
        ("2", "2.0.1", True),
    ],
)
def test_versions_compare_by_numbers(
    audit: ModuleType, version: str, floor: str, is_older: bool
) -> None:
    assert audit.older_than(version, floor) is is_older


def test_a_report_in_which_everything_was_skipped_is_no_audit(audit: ModuleType) -> None:
    verdict = audit.judge({"dependencies": [{"name": "one", "skip_reason": "not found"}]})
    assert verdict.num_known == 0
    assert not verdict.findings


def test_a_finding_is_known_by_all_its_names(audit: ModuleType) -> None:
    vulnerability = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}
    report = {
        "dependencies": [
            {"name": "one", "version": "1", "vulns": [vulnerability]},
            {"name": "two", "version": "2", "vulns": []},
        ]
    }
    verdict = audit.judge(report)
    assert verdict.num_known == 2
    assert verdict.findings == [("one", "1", {"PYSEC-1", "CVE-1"})]


def run(audit: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path, verdict: object) -> int:
    monkeypatch.setattr(audit, "HERE", folder)
    monkeypatch.setattr(audit, "ask", lambda pins: verdict)
    code: int = audit.main()
    return code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "requirements-x.lock").write_text("one==1.0 \\\n    --hash=sha256:00\n")
    (tmp_path / "advisories.txt").write_text("one 1.0 CVE-0\n")
    (tmp_path / "audit-explained.txt").write_text("# none\n")
    return tmp_path


def test_findings_fail_unless_they_are_explained(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = audit.Verdict(num_known=1, findings=[("one", "1.0", {"PYSEC-1", "CVE-1"})])
    assert run(audit, monkeypatch, folder, found) == 1
    assert "FINDING: one 1.0: CVE-1, PYSEC-1" in capsys.readouterr().out
    (folder / "audit-explained.txt").write_text("CVE-1 we never call it\n")
    assert run(audit, monkeypatch, folder, found) == 0
    assert "explained: one 1.0: CVE-1, PYSEC-1: we never call it" in capsys.readouterr().out


def test_without_an_answer_it_says_so_and_checks_what_it_can(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    silence = audit.Verdict(problems=["pypi: knows none of the packages"])
    assert run(audit, monkeypatch, folder, silence) == 0
    assert "NOT AUDITED" in capsys.readouterr().out
    (folder / "advisories.txt").write_text("one 1.0.1 CVE-9\n")
    assert run(audit, monkeypatch, folder, silence) == 1
    assert "one 1.0 is older than 1.0.1: CVE-9" in capsys.readouterr().out


def test_the_locked_packages_pass_what_is_on_file(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(audit, monkeypatch, FOLDER, audit.Verdict(problems=["not asked"])) == 0
