"""What panels look like, as far as their JSON says: against what Grafana's own parts were seen to draw of it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.grafana import load_dashboards
from tests.integration.grafana.dashboards import panels

SCREEN_PX, EDGES_PX = 1600, 34  # of a panel: its borders, and the table's scroll bar
COLUMN_PX = 150  # Grafana's least width of a column
LETTER_PX, PADDING_PX = 7.2, 12  # of Inter in a header, on an average

PANELS = [(f"{title}: {panel['title']}", panel) for title, d in load_dashboards().items() for panel in panels(d)]


def of_type(*types: str) -> pytest.MarkDecorator:
    found = [pytest.param(panel, id=name) for name, panel in PANELS if panel["type"] in types]
    assert found
    return pytest.mark.parametrize("panel", found)


def overridden(panel: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Column -> property -> value."""
    found: dict[str, dict[str, Any]] = {}
    for override in panel["fieldConfig"]["overrides"]:
        for entry in override["properties"]:
            found.setdefault(override["matcher"]["options"], {})[entry["id"]] = entry["value"]
    return found


def columns(panel: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The columns of a table that are seen, by their headers."""
    [target] = panel["targets"]
    properties = overridden(panel)
    outer = re.split(r"\bFROM\b", target["rawSql"])[0]
    for name in re.findall(r'\bAS (?:"([^"]+)"|(\w+))(?=,|\s|$)', outer):
        title = name[0] or name[1]
        if name[0] and not properties.get(title, {}).get("custom.hidden"):
            yield title, properties.get(title, {})


@of_type("table")
def test_what_stands_in_an_empty_cell_is_true_of_any(panel: dict[str, Any]) -> None:
    """Grafana writes it into each cell without a value, not into an empty table only."""
    assert panel["fieldConfig"]["defaults"]["noValue"] == "–"
    assert not any("noValue" in properties for properties in overridden(panel).values())


@of_type("table")
def test_every_column_is_on_the_screen_and_its_header_can_be_read(panel: dict[str, Any]) -> None:
    seen = dict(columns(panel))
    assert len(seen) > 4
    widths = {name: properties.get("custom.minWidth", COLUMN_PX) for name, properties in seen.items()}
    assert sum(widths.values()) <= SCREEN_PX * panel["gridPos"]["w"] / 24 - EDGES_PX, widths
    for name, width in widths.items():
        assert width >= len(name) * LETTER_PX + PADDING_PX, name


@of_type("table")
def test_no_column_has_the_name_that_grafana_replaces_by_the_querys(panel: dict[str, Any]) -> None:
    assert "Value" not in dict(columns(panel))


@of_type("table", "stat")
def test_a_number_that_is_not_there_has_no_colour(panel: dict[str, Any]) -> None:
    """Else it has that of the lowest threshold: red for a change, green for an error rate."""
    colored = [properties for properties in overridden(panel).values() if "thresholds" in properties]
    for properties in colored or ([panel["fieldConfig"]["defaults"]] if panel["type"] == "stat" else []):
        [mapping] = properties["mappings"]
        assert mapping["type"] == "special"
        assert mapping["options"]["match"] == "null+nan"
        assert {name: mapping["options"]["result"][name] for name in ("text", "color")} == {
            "text": "–",
            "color": "text",
        }


@of_type("timeseries")
def test_an_area_stands_on_zero(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    is_stacked = defaults["custom"].get("stacking", {}).get("mode") == "normal"
    if is_stacked or defaults["custom"]["fillOpacity"]:
        assert defaults["min"] == 0
    for name, properties in overridden(panel).items():
        assert not properties.get("custom.fillOpacity") or properties.get("custom.fillBelowTo"), name


@of_type("timeseries")
def test_a_legend_has_room_for_many_names(panel: dict[str, Any]) -> None:
    """Below a chart three have."""
    assert panel["options"]["legend"]["placement"] == "right"


@of_type("stat")
def test_a_number_and_its_change_fit_beside_each_other(panel: dict[str, Any]) -> None:
    assert panel["options"]["text"]["valueSize"] <= 36


@of_type("timeseries", "heatmap")
def test_a_series_of_windows_has_a_row_for_each_point(panel: dict[str, Any]) -> None:
    """Where none is, Grafana draws a straight line from the last one to the next."""
    for target in panel["targets"]:
        if "_range(" in target.get("rawSql", ""):
            assert re.search(r"ORDER BY workspace, [\w, ]*time WITH FILL", target["rawSql"])


@of_type("table")
def test_a_moment_has_a_form_of_its_own(panel: dict[str, Any]) -> None:
    """Else Grafana adds milliseconds where one is there to be seen, which its column has no room for."""
    for name, properties in columns(panel):
        if name.startswith("Last ") and name != "Last offset":
            assert properties["unit"] == "dateTimeFromNow"
        if name in ("Since", "Started", "Ended", "Time"):
            assert properties["unit"] == "dateTimeAsIso"
