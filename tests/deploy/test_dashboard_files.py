"""The committed dashboards are what their definitions say, and fit for people to read."""

import json
import subprocess
import sys
from collections import Counter
from itertools import combinations

import pytest
import yaml


@pytest.fixture
def build(deploy):
    """Run the program that writes the dashboards."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(deploy / "grafana" / "build_dashboards.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    return run


def test_the_committed_dashboards_are_current(build) -> None:
    finished = build("--check")
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_check_finds_a_stale_dashboard_and_leaves_it(build, tmp_path) -> None:
    assert build("--out", str(tmp_path)).returncode == 0
    assert build("--check", "--out", str(tmp_path)).returncode == 0
    edited = tmp_path / "overview.json"
    edited.write_text("{}\n")
    finished = build("--check", "--out", str(tmp_path))
    assert finished.returncode == 1
    assert finished.stdout == f"stale: {edited}\n"
    assert edited.read_text() == "{}\n"


def test_another_prefix_reaches_every_expression_and_variable(build, tmp_path) -> None:
    assert build("--prefix", "vllm:", "--out", str(tmp_path)).returncode == 0
    texts = {path.stem: path.read_text() for path in tmp_path.iterdir()}
    assert set(texts) == {"overview", "kv-cache", "requests"}
    for text in texts.values():
        assert "octavo_" not in text
        assert "label_values(vllm:engine_up, model_name)" in text
    assert "vllm:iteration_tokens_total_bucket" in texts["requests"]


def test_names_and_numbers_are_unique(dashboards) -> None:
    assert sorted(d.content["title"] for d in dashboards) == [
        "Octavo / KV cache",
        "Octavo / Overview",
        "Octavo / Requests",
    ]
    assert len({d.content["uid"] for d in dashboards}) == len(dashboards)
    for dashboard in dashboards:
        ids = Counter(panel["id"] for panel in dashboard.content["panels"])
        assert max(ids.values()) == 1


def test_every_panel_says_what_it_shows_and_in_which_unit(dashboards) -> None:
    for dashboard in dashboards:
        for panel in dashboard.panels():
            assert panel["title"]
            assert len(panel["description"]) > 20, panel["title"]
            assert panel["description"].endswith("."), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert panel["targets"], panel["title"]


def test_no_two_panels_cover_each_other_and_none_leaves_the_grid(dashboards) -> None:
    for dashboard in dashboards:
        places = [panel["gridPos"] for panel in dashboard.content["panels"]]
        assert all(place["x"] + place["w"] <= 24 for place in places)
        for one, other in combinations(places, 2):
            apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert apart_x or apart_y, (dashboard.name, one, other)


def test_every_query_follows_the_variables(dashboards) -> None:
    for dashboard in dashboards:
        names = [v["name"] for v in dashboard.content["templating"]["list"]]
        assert names == ["datasource", "model", "instance"]
        for name in ("model", "instance"):
            assert dashboard.variable(name)["multi"] and dashboard.variable(name)["includeAll"]
        for panel in dashboard.panels():
            for target in panel["targets"]:
                assert target["datasource"]["uid"] == "${datasource}"
                if "ALERTS" not in target["expr"]:
                    selectors = target["expr"].count("{")
                    assert target["expr"].count('instance=~"$instance"') == selectors
                    ours = target["expr"].count("octavo_")
                    assert target["expr"].count('model_name=~"$model"') == ours


def test_each_dashboard_links_to_the_others_with_time_and_variables(dashboards) -> None:
    for dashboard in dashboards:
        [link] = dashboard.content["links"]
        assert link["includeVars"] and link["keepTime"]
        assert set(link["tags"]) <= set(dashboard.content["tags"])


def test_the_provisioned_files_are_where_compose_mounts_them(deploy) -> None:
    grafana = deploy / "grafana" / "provisioning"
    [provider] = yaml.safe_load((grafana / "dashboards/octavo.yaml").read_text())["providers"]
    compose = yaml.safe_load((deploy / "compose.yaml").read_text())
    mounts = [volume.split(":") for volume in compose["services"]["grafana"]["volumes"]]
    assert ["./grafana/dashboards", provider["options"]["path"], "ro"] in mounts
    home = compose["services"]["grafana"]["environment"][
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    ]
    folder, name = home.rsplit("/", 1)
    assert folder == provider["options"]["path"]
    assert json.loads((deploy / "grafana/dashboards" / name).read_text())["title"].endswith(
        "Overview"
    )


def test_grafana_is_told_the_interval_at_which_prometheus_scrapes(deploy) -> None:
    sources = deploy / "grafana/provisioning/datasources/prometheus.yaml"
    [source] = yaml.safe_load(sources.read_text())["datasources"]
    prometheus = yaml.safe_load((deploy / "prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    assert source["isDefault"]
    assert source["url"] == "http://prometheus:9090"
