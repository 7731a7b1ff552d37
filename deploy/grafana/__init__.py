"""Grafana on ClickHouse: dashboards and alert rules as code; `make dashboards` writes the files for Grafana."""
