"""Grafana's JSON for a dashboard (schema version 39: Grafana 11 and later read it)."""

from typing import Any

from .panels import Dashboard, Panel, Query
from .queries import with_prefix

TAG = "octavo"
_GRID_WIDTH = 24
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard_json(dashboard: Dashboard, prefix: str) -> dict[str, Any]:
    """The dashboard as Grafana imports it, for servers whose metrics have this prefix."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": [TAG],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one crosshair over all panels
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [_links()],
        "templating": {"list": _variables(prefix)},
        "panels": _placed(dashboard, prefix),
    }


def _links() -> dict[str, Any]:
    """A menu of all dashboards with our tag that keeps the time range and the variables."""
    return {
        "type": "dashboards",
        "title": "Octavo",
        "tags": [TAG],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _variables(prefix: str) -> list[dict[str, Any]]:
    up = with_prefix("octavo_engine_up", prefix)
    return [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
            "hide": 0,
            "refresh": 1,
            "regex": "",
            "multi": False,
            "includeAll": False,
        },
        _label_variable("model", "Model", f"label_values({up}, model_name)"),
        _label_variable(
            "instance", "Instance", f'label_values({up}{{model_name=~"$model"}}, instance)'
        ),
    ]


def _label_variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"variable-{name}"},
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "multi": True,
        # Without an `allValue` of its own "All" is every value found: other jobs stay out.
        "includeAll": True,
        "hide": 0,
        "refresh": 2,  # whenever the time range changes
        "regex": "",
        "sort": 1,
    }


def _placed(dashboard: Dashboard, prefix: str) -> list[dict[str, Any]]:
    """Rows and panels with ids and positions, filled from left to right."""
    placed: list[dict[str, Any]] = []
    y = 0
    for row in dashboard.rows:
        placed.append(
            {
                "id": len(placed) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": _GRID_WIDTH, "x": 0, "y": y},
                "panels": [],
            }
        )
        y += 1
        x = line_height = 0
        for panel in row.panels:
            if x + panel.width > _GRID_WIDTH:
                x, y, line_height = 0, y + line_height, 0
            position = {"h": panel.height, "w": panel.width, "x": x, "y": y}
            placed.append(
                {"id": len(placed) + 1, "gridPos": position, **_panel_json(panel, prefix)}
            )
            x += panel.width
            line_height = max(line_height, panel.height)
        y += line_height
    return placed


def _panel_json(panel: Panel, prefix: str) -> dict[str, Any]:
    instant = panel.kind in ("table", "bargauge")
    targets = [
        _target(index, query, panel, prefix, instant) for index, query in enumerate(panel.queries)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": _field_defaults(panel), "overrides": []},
        "options": _options(panel),
        "transformations": _transformations(panel),
    }


def _target(index: int, query: Query, panel: Panel, prefix: str, instant: bool) -> dict[str, Any]:
    formats = {"heatmap": "heatmap", "table": "table"}
    return {
        "refId": chr(ord("A") + index),
        "datasource": _DATASOURCE,
        "editorMode": "code",
        "expr": with_prefix(query.expression, prefix),
        "legendFormat": "{{le}}" if panel.kind == "heatmap" else query.legend or "__auto",
        "format": formats.get(panel.kind, "time_series"),
        "instant": instant,
        "range": not instant,
    }


def _field_defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    steps += [{"color": limit.colour, "value": limit.value} for limit in panel.thresholds]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": _mappings(panel),
        "color": {"mode": "thresholds" if panel.kind != "timeseries" else "palette-classic"},
    }
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 8,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.thresholds else "off"},
        }
    return defaults


def _mappings(panel: Panel) -> list[dict[str, Any]]:
    if not panel.states:
        return []
    options = {
        str(state.value): {"text": state.text, "color": state.colour, "index": index}
        for index, state in enumerate(panel.states)
    }
    return [{"type": "value", "options": options}]


def _options(panel: Panel) -> dict[str, Any]:
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
    by_kind: dict[str, dict[str, Any]] = {
        "timeseries": {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}},
        "stat": {
            "reduceOptions": reduce,
            "colorMode": "value",
            "graphMode": "area",
            "justifyMode": "auto",
            "textMode": "auto",
        },
        "bargauge": {
            "reduceOptions": reduce,
            "orientation": "horizontal",
            "displayMode": "basic",
            "valueMode": "color",
            "showUnfilled": True,
        },
        "heatmap": {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5},
            "filterValues": {"le": 1e-9},
            "rowsFrame": {"layout": "auto"},
            "legend": {"show": True},
            "tooltip": {"mode": "single", "yHistogram": True},
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": panel.unit},
        },
        "table": {"showHeader": True, "cellHeight": "sm"},
        "state-timeline": {
            "mergeValues": True,
            "showValue": "auto",
            "rowHeight": 0.9,
            "legend": legend,
            "tooltip": {"mode": "single", "sort": "none"},
        },
    }
    return by_kind[panel.kind]


def _transformations(panel: Panel) -> list[dict[str, Any]]:
    if panel.kind != "table":
        return []
    hidden = dict.fromkeys(("Time", "Value", *panel.hidden_columns), True)
    return [
        {
            "id": "organize",
            "options": {"excludeByName": hidden, "indexByName": {}, "renameByName": {}},
        }
    ]
