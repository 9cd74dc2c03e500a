"""The dashboards as Python values; `build_dashboards.py` beside this folder writes their JSON.

`queries` builds PromQL, `panels` describes what is drawn, `grafana_json` puts it into Grafana's
format, and one module a dashboard says which panels it has. Imports nothing of Octavo.
"""
