"""The common look of panels: numbers, series, tables and their columns."""

import re
from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import common, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders import table as table_panel
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana.sql import CLICKHOUSE, Target

NOTHING = "No data in this range"
EMPTY = "–"
Step = tuple[float | None, str]


def thresholds(*steps: Step) -> builder.ThresholdsConfig:
    """(from this value on, this colour), the first from minus infinity."""
    return (
        builder.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=color) for value, color in steps])
    )


# Few enough that a week is read from hours and a month too; more cannot be told apart on a screen.
POINTS = 200
# Else what is not there has the colour of the least.
NOT_THERE = model.SpecialValueMap(
    options=model.DashboardSpecialValueMapOptions(
        match=model.SpecialValueMatch.NULL_AND_NAN, result=model.ValueMappingResult(text=EMPTY, color="text")
    )
)
PLAIN: tuple[Step, ...] = ((None, "text"),)
ERRORS: tuple[Step, ...] = ((None, "green"), (0.01, "yellow"), (0.05, "red"))


def number(
    title: str,
    description: str,
    unit: str,
    query: Target,
    steps: Sequence[Step] = PLAIN,
    decimals: int | None = None,
) -> stat.Panel:
    """One number."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(CLICKHOUSE)
        .unit(unit)
        .interval("10s")
        .max_data_points(POINTS)
        .thresholds(thresholds(*steps))
        .mappings([NOT_THERE])
        .color_scheme(builder.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .graph_mode(look.BigValueGraphMode.NONE)
        .color_mode(look.BigValueColorMode.VALUE)
        .text_mode(look.BigValueTextMode.VALUE)
        .text(common.VizTextDisplayOptions().value_size(32))  # beside it there is room for a change
        .reduce_options(common.ReduceDataOptions().calcs(["last"]).fields(""))
        .no_value(EMPTY)
        .height(4)
        .span(4)
        .with_target(query)
    )
    return panel if decimals is None else panel.decimals(decimals)


def changing(panel: stat.Panel, colors: look.PercentChangeColorMode) -> stat.Panel:
    """With the change in % since the row before the last."""
    return panel.show_percent_change(True).percent_change_color_mode(colors)


def lines(title: str, description: str, unit: str, query: Builder[Dataquery], *, by: str = "") -> timeseries.Panel:
    """Series by time, without a filling: an axis need not begin at 0. `by`: the label that tells them apart."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(CLICKHOUSE)
        .unit(unit)
        .interval("10s")
        .max_data_points(POINTS)
        .color_scheme(builder.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .line_width(1)
        .fill_opacity(0)
        .show_points(look.VisibilityMode.AUTO)
        .legend(legend("mean", "lastNotNull"))
        .tooltip(common.VizTooltipOptions().mode(look.TooltipDisplayMode.MULTI).sort(look.SortOrder.DESCENDING))
        .no_value(NOTHING)
        .height(8)
        .span(12)
        .with_target(query)
    )
    return panel.display_name(f"${{__field.labels.{by}}}") if by else panel


def legend(*calcs: str) -> common.VizLegendOptions:
    """A table beside the chart: below it, three names have room."""
    shown = common.VizLegendOptions().display_mode(look.LegendDisplayMode.TABLE)
    shown.placement(look.LegendPlacement.RIGHT)
    return shown.show_legend(True).calcs(list(calcs))


def stacked(panel: timeseries.Panel, opacity: int = 25) -> timeseries.Panel:
    """Areas on each other, up from 0."""
    return panel.fill_opacity(opacity).stacking(common.StackingConfig().mode(look.StackingMode.NORMAL)).min(0)


def bars(panel: timeseries.Panel) -> timeseries.Panel:
    """Bars on each other: what was counted at each point."""
    return (
        stacked(panel, 70).draw_style(look.GraphDrawStyle.BARS).line_width(0).max_data_points(120).legend(legend("sum"))
    )


def rows(title: str, description: str, query: Target, *, height: int = 9) -> table_panel.Panel:
    """A table. Grafana writes `no_value` into each empty cell, too: it must be true of any."""
    panel = (
        table_panel.Panel()
        .title(title)
        .description(description)
        .datasource(CLICKHOUSE)
        .interval("10s")
        .max_data_points(POINTS)
        .no_value(EMPTY)
        .cell_height(look.TableCellHeight.SM)
        .filterable(False)
        .height(height)
        .span(24)
        .with_target(query)
    )
    for name in dict.fromkeys(re.findall(r'AS "([^"]+)"', query.text)):
        panel.override_by_name(name, column(custom_minWidth=header_width(name)))
    return panel


def header_width(name: str) -> int:
    """What a column needs for its name, in pixels; Grafana's own least, 150, puts the last ones beyond the edge."""
    return max(70, 8 * len(name) + 16)


def column(**properties: object) -> list[model.DynamicConfigValue]:
    """Properties of a column by their names, `_` standing for `.`: unit="ms", custom_width=90."""
    return [model.DynamicConfigValue(name.replace("_", "."), value) for name, value in properties.items()]


MOMENT = {"unit": "dateTimeAsIso", "custom_minWidth": 150}
AGO = {"unit": "dateTimeFromNow", "custom_minWidth": 130}
_COLORED = {"unit": "percentunit", "custom_cellOptions": {"type": "color-text"}, "mappings": [NOT_THERE]}


def change(better: str) -> list[model.DynamicConfigValue]:
    """A column with a change: green where it goes the better way ("up", "down"), red the other; "" is no matter."""
    up, down = {"up": ("green", "red"), "down": ("red", "green"), "": ("text", "text")}[better]
    return _colored(1, (None, down), (-0.02, "text"), (0.02, up))


def errors_column() -> list[model.DynamicConfigValue]:
    """A column with an error rate."""
    return _colored(2, *ERRORS)


def _colored(decimals: int, *steps: Step) -> list[model.DynamicConfigValue]:
    levels = [{"value": value, "color": color} for value, color in steps]
    return column(**_COLORED, decimals=decimals, thresholds={"mode": "absolute", "steps": levels})


def text_colors(colors: Mapping[str, str]) -> list[model.DynamicConfigValue]:
    """A column of words, each in its colour."""
    options = {text: {"color": color} for text, color in colors.items()}
    return column(mappings=[{"type": "value", "options": options}], custom_cellOptions={"type": "color-text"})
