"""Panels as our dashboards use them, set in rows of 24 columns; every one says what it means and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import common as build_common
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import stat as build_stat
from grafana_foundation_sdk.builders import table as build_table
from grafana_foundation_sdk.builders import text as build_text
from grafana_foundation_sdk.builders import timeseries as build_series
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.text import TextMode

from dashboards.query import SERIES, TABLE, ClickHouse, Target
from dashboards.variables import Variable

WIDTH = 24
GREEN, YELLOW, RED, GREY = "green", "orange", "red", "text"

PAYMENTS = {"paid": GREEN, "open": YELLOW, "failed": RED, "uncollectible": RED, "void": GREY}

Property = dashboard.DynamicConfigValue
PanelBuilder = build_stat.Panel | build_table.Panel | build_series.Panel | build_text.Panel


class Panel(NamedTuple):
    """A panel and the room that it takes."""

    made: PanelBuilder
    width: int
    height: int


@dataclass(frozen=True)
class Board:
    """A dashboard: rows of panels, top to bottom."""

    uid: str
    title: str
    folder: str
    about: str
    rows: Sequence[Sequence[Panel]]
    variables: Sequence[Variable] = ()
    since: str = "now/M"
    refresh: str = ""
    tags: Sequence[str] = field(default=("metering",))

    def build(self) -> dashboard.Dashboard:
        """The dashboard as Grafana stores it."""
        made = build.Dashboard(self.title).uid(self.uid).description(self.about).tags([*self.tags])
        made.timezone("utc").time(self.since, "now").readonly().refresh(self.refresh)
        made.tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        made.link(_menu())
        for variable in self.variables:
            made.with_variable(variable)
        top = number = 0
        for row in self.rows:
            left = 0
            for panel in row:
                number += 1
                place = dashboard.GridPos(h=panel.height, w=panel.width, x=left, y=top)
                made.with_panel(panel.made.id(number).grid_pos(place))
                left += panel.width
            top += max(panel.height for panel in row)
        built = made.build()
        for link in built.links or []:
            link.placement = None  # type: ignore[assignment]  # the SDK would hide every link in a menu
        return built


def _menu() -> build.DashboardLink:
    link = build.DashboardLink("Dashboards").type(dashboard.DashboardLinkType.DASHBOARDS)
    return link.tags(["metering"]).as_dropdown(True).keep_time(True).include_vars(True)


def sentence(means: str, action: str) -> str:
    """The description of a panel: what it means, what to do."""
    return f"{means}\n\n**What to do:** {action}"


def stat(title: str, sql: str, means: str, action: str, *, width: int = 6) -> Panel:
    """One row of the books as large text; amounts come as text and stay exact."""
    made = build_stat.Panel().title(title).description(sentence(means, action))
    made.with_target(Target(ClickHouse(sql, TABLE)))
    return Panel(_as_text(made), width, 4)


def figure(
    title: str, query: variants.Dataquery, means: str, action: str, *, unit: str = "short",
    steps: Sequence[tuple[float | None, str]] = ((None, GREY),), width: int = 6,
) -> Panel:  # fmt: skip
    """One number of Prometheus, coloured by thresholds."""
    made = build_stat.Panel().title(title).description(sentence(means, action)).unit(unit)
    made.with_target(Target(query)).thresholds(_thresholds(steps)).no_value("–")
    made.color_mode(common.BigValueColorMode.VALUE).graph_mode(common.BigValueGraphMode.NONE)
    made.reduce_options(build_common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    return Panel(made, width, 4)


def _as_text(made: build_stat.Panel) -> build_stat.Panel:
    options = build_common.ReduceDataOptions().calcs(["lastNotNull"]).fields("/.*/").values(False)
    made.reduce_options(options).no_value("–").graph_mode(common.BigValueGraphMode.NONE)
    return made.color_mode(common.BigValueColorMode.NONE).justify_mode(common.BigValueJustifyMode.CENTER)


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> build.ThresholdsConfig:
    found = [dashboard.Threshold(value=value, color=color) for value, color in steps]
    return build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(found)


def table(
    title: str, sql: str, means: str, action: str, *, width: int = 24, height: int = 9,
    links: dict[str, tuple[str, str]] | None = None, right: Sequence[str] = (),
    states: dict[str, dict[str, str]] | None = None, widths: dict[str, int] | None = None,
) -> Panel:  # fmt: skip
    """Rows of the books. `right` columns are amounts as text; `states` give values of a column a colour."""
    made = build_table.Panel().title(title).description(sentence(means, action))
    made.with_target(Target(ClickHouse(sql, TABLE))).no_value("–").show_header(True)
    made.cell_height(common.TableCellHeight.SM)
    changes: dict[str, list[Property]] = {}
    for column in right:
        changes.setdefault(column, []).append(Property("custom.align", "right"))
    for column, (name, url) in (links or {}).items():
        link = {"title": name, "url": url, "targetBlank": False}
        changes.setdefault(column, []).append(Property("links", [link]))
    for column, colours in (states or {}).items():
        changes.setdefault(column, []).extend(_coloured(colours))
    for column, pixels in (widths or {}).items():
        changes.setdefault(column, []).append(Property("custom.width", pixels))
    for column, properties in changes.items():
        made.override_by_name(column, properties)
    return Panel(made, width, height)


def _coloured(colours: dict[str, str]) -> list[Property]:
    options = {
        value: {"color": colour, "index": place} for place, (value, colour) in enumerate(colours.items())
    }
    return [
        Property("mappings", [{"type": "value", "options": options}]),
        Property("custom.cellOptions", {"type": "color-text"}),
    ]


def series(
    title: str, sql: str, means: str, action: str, *, width: int = 24, height: int = 9, unit: str = "short",
    bars: bool = True, every: str = "1d", decimals: int | None = None,
) -> Panel:  # fmt: skip
    """A quantity or an amount over time, a colour for each label; the drawing is rounded, tables are exact."""
    made = build_series.Panel().title(title).description(sentence(means, action)).interval(every)
    made.with_target(Target(ClickHouse(sql, SERIES)))
    return Panel(_drawn(made, unit, bars=bars, decimals=decimals), width, height)


def curves(
    title: str, queries: Sequence[variants.Dataquery], means: str, action: str, *, width: int = 12,
    height: int = 8, unit: str = "short", bars: bool = False,
) -> Panel:  # fmt: skip
    """Series of Prometheus over time."""
    made = build_series.Panel().title(title).description(sentence(means, action))
    for query in queries:
        made.with_target(Target(query))
    return Panel(_drawn(made, unit, bars=bars, decimals=None), width, height)


def _drawn(made: build_series.Panel, unit: str, *, bars: bool, decimals: int | None) -> build_series.Panel:
    made.unit(unit).no_value("No data").axis_soft_min(0)
    if decimals is not None:
        made.decimals(decimals)
    if bars:
        made.draw_style(common.GraphDrawStyle.BARS).fill_opacity(80).line_width(0).bar_width_factor(0.8)
        made.stacking(build_common.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    else:
        made.draw_style(common.GraphDrawStyle.LINE).line_width(2).fill_opacity(8)
        made.show_points(common.VisibilityMode.NEVER)
    legend = build_common.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM)
    made.legend(legend.display_mode(common.LegendDisplayMode.LIST).calcs([]))
    mode = build_common.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    return made.tooltip(mode.sort(common.SortOrder.DESCENDING))


def words(title: str, content: str, *, width: int = 24, height: int = 4) -> Panel:
    """Text in Markdown."""
    made = build_text.Panel().title(title).mode(TextMode.MARKDOWN).content(content)
    return Panel(made.description(sentence("An explanation.", "read it.")), width, height)


def link_to(uid: str, **variables: str) -> str:
    """The address of another dashboard with the same time range; values as Grafana writes them."""
    given = "".join(f"&var-{name}={value}" for name, value in variables.items())
    return f"/d/{uid}?${{__url_time_range}}{given}"


def cell(column: str) -> str:
    """The value of a column of the clicked row, safe in an address whatever it holds."""
    return f"${{__data.fields.{column}:percentencode}}"


Dashboard = dict[str, Any]
