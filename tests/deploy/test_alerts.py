"""The alert rules, by Prometheus' own checker and unit tests."""

import re
import shutil
import subprocess

import pytest
import yaml

ALERTS = {
    "OctavoDown",
    "OctavoRestarting",
    "OctavoEngineStalled",
    "OctavoSaturated",
    "OctavoKvCacheFull",
    "OctavoHighErrorRate",
    "OctavoPreemptionStorm",
    "OctavoSlowTtft",
    "OctavoRejectingRequests",
}
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian package prometheus) is missing"
)


def promtool(*arguments: object) -> str:
    """What promtool prints; it must exit with 0."""
    command = ["promtool", *(str(argument) for argument in arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@needs_promtool
def test_promtool_accepts_the_configuration_and_finds_the_rules(deploy) -> None:
    assert "9 rules found" in promtool("check", "config", deploy / "prometheus/prometheus.yml")


@needs_promtool
def test_promtool_accepts_the_rules(deploy) -> None:
    rules = sorted((deploy / "prometheus/rules").glob("*.yml"))
    promtool("check", "rules", "--lint-fatal", *rules)


@needs_promtool
def test_alerts_fire_and_stay_silent_as_their_unit_tests_say(deploy) -> None:
    promtool("test", "rules", *sorted((deploy / "prometheus/tests").glob("*.yml")))


def test_the_unit_tests_show_each_alert_firing_and_silent(deploy, alerts) -> None:
    fired, silent = set(), set()
    for path in (deploy / "prometheus/tests").glob("*.yml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                (fired if case["exp_alerts"] else silent).add(case["alertname"])
    assert {alert["alert"] for alert in alerts} == fired == silent == ALERTS


def test_each_alert_says_how_bad_it_is_and_where_its_runbook_stands(deploy, alerts) -> None:
    page = (deploy.parent / "docs/monitoring.md").read_text()
    anchors = {f"#{title.lower()}" for title in re.findall(r"^#+ (\w+)$", page, re.MULTILINE)}
    for alert in alerts:
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}
        runbook = alert["annotations"]["runbook"]
        assert runbook == f"docs/monitoring.md#{alert['alert'].lower()}"
        assert runbook.removeprefix("docs/monitoring.md") in anchors


def test_red_lines_on_panels_stand_where_alerts_fire(dashboards, alerts) -> None:
    limits = {
        ("overview", "TTFT"): "OctavoSlowTtft",
        ("overview", "Failures"): "OctavoHighErrorRate",
        ("overview", "Oldest step"): "OctavoEngineStalled",
        ("kv-cache", "Usage"): "OctavoKvCacheFull",
        ("kv-cache", "Recomputed share"): "OctavoPreemptionStorm",
    }
    expressions = {alert["alert"]: alert["expr"] for alert in alerts}
    for (name, title), alert in limits.items():
        [dashboard] = [d for d in dashboards if d.name == name]
        for panel in [p for p in dashboard.panels() if p["title"] == title]:
            red = panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]
            assert red["color"] == "red"
            limit = re.escape(str(red["value"]))
            assert re.search(rf"> {limit}$", expressions[alert], re.MULTILINE), (alert, red)
