"""The table: a line for each step of each subject."""

from benchmarks.vacuum_scale.run import Step

COLUMNS = (
    ("created s", "created", ".1f"),
    ("running s", "running", ".1f"),
    ("calls/pod", "calls", ".2f"),
    ("all/pod", "all_calls", ".2f"),
    ("CPU s/1000", "cpu", ".2f"),
    ("RSS MiB", "rss", ".0f"),
    ("peak MiB", "peak", ".0f"),
    ("others", "others", ".0%"),
    ("rest req/s", "rest_calls", ".2f"),
    ("rest CPU", "rest_cpu", ".3f"),
    ("lives", "lives", "d"),
    ("p50 s", "replaced_p50", ".2f"),
    ("p99 s", "replaced_p99", ".2f"),
    ("calls/life", "life_calls", ".2f"),
    ("pod writes", "life_pod_writes", ".2f"),
    ("CPU s/1000", "life_cpu", ".2f"),
)
HEAD = f"{'subject':20}{'column':9}{'pods':>7}" + "".join(f"{title:>12}" for title, _, _ in COLUMNS)


def line(name: str, column: str, step: Step) -> str:
    """One line; a dash is what was not reached, or does not apply."""
    texts = []
    for _, key, form in COLUMNS:
        value = getattr(step, key)
        texts.append(f"{'-' if value is None else format(value, form):>12}")
    return f"{name:20}{column:9}{step.pods:>7}{''.join(texts)}"
