"""What each dashboard shows: queries and units, as data; how Grafana is told of it is in build.py.

$site is the namespaces that are chosen; node agents are in another one, $site-system. Replicas of a controller tell the
same numbers, so that the largest of them is taken, not their sum.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

HERE = 'namespace=~"$site"'
AGENTS = 'namespace=~"$site-system"'
RATE = "$__rate_interval"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        title: of it.
        queries: by the legend, in which {{label}} stands for the value of a label.
        unit: by Grafana's name of it.
        kind: a line in time, or the last value as a number.
        about: what a look at it tells, where the title does not.
        alarm: of a number: red from there up; if it is negative, red below what it is without its sign.
        stacked: whether lines are summed by the eye.
    """

    title: str
    queries: Mapping[str, str]
    unit: str = "short"
    kind: Literal["lines", "number"] = "lines"
    about: str = ""
    alarm: float | None = None
    stacked: bool = False


@dataclass(frozen=True, kw_only=True)
class Board:
    """One dashboard.

    Attributes:
        name: of its file, and in its address.
        title: for people.
        panels: in the order of reading.
    """

    name: str
    title: str
    panels: tuple[Panel, ...]


def _startds(state: str) -> str:
    return f'max by (namespace, set) (vacuum_startds{{{HERE}, state="{state}"}})'


def _gained(metric: str, by: str, more: str = "") -> str:
    """How fast a counter of the vacuum controller grows, by labels; all its replicas tell it."""
    return f"max by (namespace, {by}) (rate({metric}{{{HERE}{more}}}[{RATE}]))"


_HIT_RATIO = (
    f"sum by (namespace) (rate(squid_client_http_hits_total{{{HERE}}}[{RATE}]))"
    f" / sum by (namespace) (rate(squid_client_http_requests_total{{{HERE}}}[{RATE}]))"
)
_PROXY = f'min by (namespace) (credentials_seconds_to_expiry{{{HERE}, what="proxy"}})'
_NODES_HELD = f"count by (namespace) (max by (namespace, node) (nodehealth_held_timestamp_seconds{{{HERE}}}))"

BOARDS = (
    Board(
        name="sites",
        title="Sites",
        panels=(
            Panel(
                title="Startds that run",
                kind="number",
                queries={"{{namespace}}": f"sum by (namespace) ({_startds('running')})"},
            ),
            Panel(
                title="Of them shown to work",
                kind="number",
                queries={"{{namespace}}": f"sum by (namespace) ({_startds('proven')})"},
            ),
            Panel(
                title="Back-offs in a row",
                kind="number",
                alarm=1,
                about="Above 0 the pool had no work; docs/runbooks/startds.md",
                queries={"{{namespace}} {{set}}": f"max by (namespace, set) (vacuum_backoff_level{{{HERE}}})"},
            ),
            Panel(title="Proxy lasts", kind="number", unit="s", alarm=-72 * 3600, queries={"{{namespace}}": _PROXY}),
            Panel(title="Nodes out of use", kind="number", alarm=1, queries={"{{namespace}}": _NODES_HELD}),
            Panel(
                title="Spent today",
                kind="number",
                queries={
                    "{{namespace}} {{currency}}": (
                        f'max by (namespace, currency) (accounting_spent{{{HERE}, period="day"}})'
                    )
                },
            ),
            Panel(title="Startds", stacked=True, queries={"{{namespace}} {{set}}": _startds("running")}),
            Panel(title="Squids: hit ratio", unit="percentunit", queries={"{{namespace}}": _HIT_RATIO}),
            Panel(
                title="Nodes that cannot read a repository",
                queries={
                    "{{namespace}} {{repository}}": (
                        f"count by (namespace, repository) (cvmfs_repository_readable{{{AGENTS}}} == 0)"
                    )
                },
            ),
            Panel(
                title="Since the hub heard a site",
                unit="s",
                queries={"{{site}}": f"max by (namespace, site) (portal_silence_seconds{{{HERE}}})"},
            ),
            Panel(
                title="What is in the way",
                about="Problems that services name; the log of each has the sentence",
                queries={
                    "{{namespace}} credentials: {{reason}}": (
                        f"max by (namespace, reason) (credentials_problem{{{HERE}}})"
                    ),
                    "{{namespace}} {{source}}: {{reason}}": (
                        f"max by (namespace, source, reason) (accounting_problem{{{HERE}}})"
                    ),
                },
            ),
        ),
    ),
    Board(
        name="startds",
        title="Startds and the vacuum controller",
        panels=(
            Panel(
                title="Startds by what they have shown",
                queries={"{{set}} {{state}}": f"max by (namespace, set, state) (vacuum_startds{{{HERE}}})"},
            ),
            Panel(
                title="What bounds them",
                about="The lowest line rules; explain has the words",
                queries={
                    "{{set}} {{bound}}": f"max by (namespace, set, bound) (vacuum_bound_startds{{{HERE}}})",
                    "{{set}} all together": f"max by (namespace, set) (vacuum_limit{{{HERE}}})",
                },
            ),
            Panel(
                title="Startds that ended, each hour",
                stacked=True,
                queries={"{{set}} {{class}}": f"3600 * {_gained('vacuum_outcomes_total', 'set, class')}"},
            ),
            Panel(
                title="Cores by what became of their startds",
                stacked=True,
                queries={"{{set}} {{class}}": _gained("vacuum_core_seconds_total", "set, class")},
            ),
            Panel(
                title="Efficiency",
                unit="percentunit",
                about="Core-seconds with a payload that was not cut short, and CPU time, of all",
                queries={
                    "{{set}} CPU": (
                        f"{_gained('vacuum_cpu_core_seconds_total', 'set')}"
                        f" / sum by (namespace, set) ({_gained('vacuum_core_seconds_total', 'set, class')})"
                    ),
                    "{{set}}": (
                        f"({_gained('vacuum_busy_core_seconds_total', 'set')}"
                        f" - {_gained('vacuum_lost_core_seconds_total', 'set')})"
                        f" / sum by (namespace, set) ({_gained('vacuum_core_seconds_total', 'set, class')})"
                    ),
                },
            ),
            Panel(
                title="Window, and back-offs in a row",
                queries={
                    "{{set}} window": f"max by (namespace, set) (vacuum_window{{{HERE}}})",
                    "{{set}} back-offs": f"max by (namespace, set) (vacuum_backoff_level{{{HERE}}})",
                    "{{set}} nodes avoided": f"max by (namespace, set) (vacuum_blamed_nodes{{{HERE}}})",
                },
            ),
            Panel(
                title="From being made to the first payload",
                unit="s",
                about="95 of 100 startds took less",
                queries={
                    "{{set}} {{step}}": (
                        "histogram_quantile(0.95, sum by (namespace, set, step, le) "
                        f"(rate(vacuum_startd_step_seconds_bucket{{{HERE}}}[{RATE}])))"
                    )
                },
            ),
            Panel(
                title="One turn of the controller",
                unit="s",
                about="99 of 100 took less",
                queries={
                    "{{namespace}}": (
                        "histogram_quantile(0.99, sum by (namespace, le) "
                        f"(rate(vacuum_turn_seconds_bucket{{{HERE}}}[{RATE}])))"
                    )
                },
            ),
            Panel(
                title="Calls to the API server, each second",
                queries={
                    "{{verb}} {{code}}": (
                        f"sum by (namespace, verb, code) (rate(vacuum_api_requests_total{{{HERE}}}[{RATE}]))"
                    )
                },
            ),
            Panel(
                title="Silence of the API server",
                unit="s",
                queries={"{{instance}}": f"vacuum_watch_staleness_seconds{{{HERE}}}"},
            ),
        ),
    ),
    Board(
        name="squids",
        title="Squids",
        panels=(
            Panel(title="Hit ratio", unit="percentunit", queries={"{{namespace}}": _HIT_RATIO}),
            Panel(
                title="Requests, each second",
                unit="reqps",
                stacked=True,
                queries={"{{instance}}": f"rate(squid_client_http_requests_total{{{HERE}}}[{RATE}])"},
            ),
            Panel(
                title="To clients, and from origins",
                unit="KiBs",
                queries={
                    "{{instance}} to clients": f"rate(squid_client_http_kbytes_out_kbytes_total{{{HERE}}}[{RATE}])",
                    "{{instance}} from origins": f"rate(squid_server_http_kbytes_in_kbytes_total{{{HERE}}}[{RATE}])",
                },
            ),
            Panel(
                title="Answered within",
                unit="s",
                queries={
                    "{{instance}} half": f"squid_HTTP_Requests_All_50{{{HERE}}}",
                    "{{instance}} 95 of 100": f"squid_HTTP_Requests_All_95{{{HERE}}}",
                },
            ),
            Panel(
                title="What origins were asked and failed, each second",
                unit="reqps",
                queries={
                    "{{instance}} asked": f"rate(squid_server_http_requests_total{{{HERE}}}[{RATE}])",
                    "{{instance}} failed": f"rate(squid_server_http_errors_total{{{HERE}}}[{RATE}])",
                },
            ),
            Panel(
                title="File descriptors in use",
                unit="percentunit",
                queries={
                    "{{instance}}": (
                        f"1 - squid_info_Available_number_of_file_descriptors{{{HERE}}}"
                        f" / squid_info_Maximum_number_of_file_descriptors{{{HERE}}}"
                    )
                },
            ),
            Panel(title="Squids that answer", queries={"{{namespace}}": f"sum by (namespace) (squid_up{{{HERE}}})"}),
        ),
    ),
    Board(
        name="cvmfs",
        title="CVMFS",
        panels=(
            Panel(
                title="Nodes that read the repository",
                unit="percentunit",
                queries={
                    "{{namespace}} {{repository}}": (
                        f"avg by (namespace, repository) (cvmfs_repository_readable{{{AGENTS}}})"
                    )
                },
            ),
            Panel(
                title="Nodes that cannot",
                queries={"{{instance}} {{repository}}": f"cvmfs_repository_readable{{{AGENTS}}} == 0"},
            ),
            Panel(
                title="Reads that failed within an hour",
                queries={"{{instance}} {{repository}}": f"increase(cvmfs_io_errors{{{AGENTS}}}[1h]) > 0"},
            ),
        ),
    ),
    Board(
        name="credentials",
        title="Credentials",
        panels=(
            Panel(
                title="Until it ends",
                unit="s",
                queries={
                    "{{namespace}} {{what}}": (f"min by (namespace, what) (credentials_seconds_to_expiry{{{HERE}}})"),
                    "{{namespace}} {{severity}} below": (
                        f"max by (namespace, severity) (credentials_threshold_seconds{{{HERE}}})"
                    ),
                },
            ),
            Panel(
                title="Since the proxy was made",
                unit="s",
                queries={
                    "{{namespace}}": (
                        f"time() - max by (namespace) (credentials_last_success_timestamp_seconds{{{HERE}}})"
                    )
                },
            ),
            Panel(
                title="Attempts to replace it, each hour",
                queries={
                    "{{namespace}} {{result}}": (
                        f"3600 * sum by (namespace, result) (rate(credentials_refreshes_total{{{HERE}}}[{RATE}]))"
                    )
                },
            ),
            Panel(
                title="What is in the way",
                queries={"{{namespace}} {{reason}}": f"max by (namespace, reason) (credentials_problem{{{HERE}}})"},
            ),
        ),
    ),
    Board(
        name="nodes",
        title="Nodes",
        panels=(
            Panel(
                title="Nodes by pool",
                queries={"{{pool}} {{state}}": f"max by (namespace, pool, state) (nodehealth_nodes{{{HERE}}})"},
            ),
            Panel(
                title="Signs at nodes",
                queries={
                    "{{problem}}": f"sum by (namespace, problem) "
                    f"(max by (namespace, node, problem) (nodehealth_problem{{{HERE}}}))"
                },
            ),
            Panel(
                title="Out of use for",
                unit="s",
                queries={
                    "{{node}} {{why}}": (
                        f"time() - max by (namespace, node, why) (nodehealth_held_timestamp_seconds{{{HERE}}})"
                    )
                },
            ),
            Panel(
                title="Bad nodes that stay in use",
                about="1 where too many of a pool are bad or away",
                queries={"{{pool}}": f"max by (namespace, pool) (nodehealth_restrained{{{HERE}}})"},
            ),
            Panel(
                title="Silent monitors",
                queries={"{{node}}": f"max by (namespace, node) (nodehealth_blind{{{HERE}}})"},
            ),
            Panel(
                title="Lines of kernels, each hour",
                queries={
                    "{{reason}}": (
                        f"3600 * sum by (namespace, reason) (rate(problem_counter_total{{{AGENTS}}}[{RATE}]))"
                    )
                },
            ),
            Panel(
                title="Nodes taken and given back, each hour",
                queries={
                    "{{action}} {{why}}": (
                        f"3600 * sum by (namespace, action, why) (rate(nodehealth_actions_total{{{HERE}}}[{RATE}]))"
                    )
                },
            ),
            Panel(
                title="Nodes without a setting",
                queries={"{{setting}}": f"count by (namespace, setting) (node_setting_good{{{AGENTS}}} == 0)"},
            ),
        ),
    ),
    Board(
        name="cost",
        title="Cost",
        panels=(
            Panel(
                title="Spent, and the budget",
                about="Of this day and this month of UTC; docs/runbooks/cost.md",
                queries={
                    "{{namespace}} {{period}} {{currency}}": (
                        f"max by (namespace, period, currency) (accounting_spent{{{HERE}}})"
                    ),
                    "{{namespace}} {{period}} {{currency}}: budget": (
                        f"max by (namespace, period, currency) (accounting_budget{{{HERE}}})"
                    ),
                },
            ),
            Panel(
                title="Part of the budget",
                unit="percentunit",
                alarm=0.9,
                kind="number",
                queries={
                    "{{namespace}} {{period}}": (
                        f"max by (namespace, period, currency) (accounting_spent{{{HERE}}})"
                        f" / max by (namespace, period, currency) (accounting_budget{{{HERE}}})"
                    )
                },
            ),
            Panel(
                title="No startd is made for its sake",
                kind="number",
                alarm=1,
                queries={"{{namespace}}": f"max by (namespace) (accounting_over_budget{{{HERE}}})"},
            ),
            Panel(
                title="Since costs were read",
                unit="s",
                queries={
                    "{{namespace}} {{source}}": (
                        f"max by (namespace, source) (accounting_reading_age_seconds{{{HERE}}})"
                    )
                },
            ),
            Panel(
                title="Readings, each hour",
                queries={
                    "{{source}} {{result}}": (
                        f"3600 * sum by (namespace, source, result) (rate(accounting_readings_total{{{HERE}}}[{RATE}]))"
                    )
                },
            ),
            Panel(
                title="Since time series had everything",
                unit="s",
                about="Of a site that writes any to InfluxDB; what it lacks waits in the ledger",
                queries={"{{namespace}}": f"max by (namespace) (accounting_series_behind_seconds{{{HERE}}})"},
            ),
            Panel(
                title="Days that a bill leaves out",
                queries={"{{source}}": f"max by (namespace, source) (accounting_days_without_rows{{{HERE}}})"},
            ),
            Panel(
                title="What is in the way",
                queries={
                    "{{source}}: {{reason}}": f"max by (namespace, source, reason) (accounting_problem{{{HERE}}})"
                },
            ),
            Panel(
                title="Cores that earned nothing",
                stacked=True,
                about="Cores of startds that ended without having worked, by what became of them",
                queries={"{{set}} {{class}}": _gained("vacuum_core_seconds_total", "set, class", ', class!="Worked"')},
            ),
        ),
    ),
)
