"""Turns what boards.py says into what Grafana reads, by Grafana's own library."""

import string

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as shapes, dashboard as models

from dashboards.boards import BOARDS, Board, Panel

# Grafana's grid has 24 columns; numbers stand beside each other, lines two in a row.
LINES = (12, 8)
NUMBER = (6, 5)
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")


def built() -> dict[str, str]:
    """Each dashboard as JSON, by the name of its file."""
    return {
        f"{board.name}.json": f"{JSONEncoder(sort_keys=True, indent=1).encode(_board(board))}\n" for board in BOARDS
    }


def _board(board: Board) -> models.Dashboard:
    made = (
        dashboard.Dashboard(f"ATLAS sites: {board.title}")
        .uid(f"atlas-sites-{board.name}")
        .tags(["atlas-sites"])
        .timezone("utc")  # as days of the ledger are
        .refresh("1m")
        .time("now-24h", "now")
        .readonly()
        .link(
            dashboard.DashboardLink("ATLAS sites")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["atlas-sites"])
            .keep_time(keep_time=True)
            .include_vars(include_vars=True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("site")
            .label("Site")
            .datasource(SOURCE)
            .query("label_values(vacuum_leader, namespace)")
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(models.VariableSort.ALPHABETICAL_ASC)
            .multi(multi=True)
            .include_all(include_all=True)
            .all_value(".*")
        )
    )
    for number, panel in enumerate(board.panels, start=1):
        made = made.with_panel(_number(panel, number) if panel.kind == "number" else _lines(panel, number))
    return made.build()


def _lines(panel: Panel, number: int) -> timeseries.Panel:
    width, height = LINES
    made = (
        timeseries.Panel()
        .id(number)
        .title(panel.title)
        .description(panel.about)
        .datasource(SOURCE)
        .unit(panel.unit)
        .min(0)
        .span(width)
        .height(height)
        .fill_opacity(20 if panel.stacked else 0)
        .legend(
            common.VizLegendOptions()
            .display_mode(shapes.LegendDisplayMode.LIST)
            .placement(shapes.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI))
        .targets(_targets(panel))
    )
    if panel.stacked:
        made = made.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL))
    return made


def _number(panel: Panel, number: int) -> stat.Panel:
    width, height = NUMBER
    made = (
        stat.Panel()
        .id(number)
        .title(panel.title)
        .description(panel.about)
        .datasource(SOURCE)
        .unit(panel.unit)
        .span(width)
        .height(height)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .text_mode(shapes.BigValueTextMode.VALUE_AND_NAME)
        .targets(_targets(panel))
    )
    if panel.alarm is None:
        return made
    good, bad = ("red", "green") if panel.alarm < 0 else ("green", "red")
    return made.thresholds(
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=None, color=good), models.Threshold(value=abs(panel.alarm), color=bad)])
    )


def _targets(panel: Panel) -> list[builder.Builder[variants.Dataquery]]:
    return [
        prometheus.Dataquery().ref_id(letter).datasource(SOURCE).expr(query).legend_format(legend)
        for letter, (legend, query) in zip(string.ascii_uppercase, panel.queries.items(), strict=False)
    ]
