"""Print a run: the bars first, as ratios; then every figure with its spread."""

from __future__ import annotations

from bars import Bar, bars
from cases import GROUPS
from measure import METRICS, PLACEMENT, Results, Summary


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _table(rows: list[list[str]], left: int) -> list[str]:
    """Rows of text in columns; the first `left` columns to the left, the rest to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * len(lines[0]))
    return lines


def _verdict(bar: Bar) -> str:
    return {True: "met", False: "NOT MET", None: "no figure"}[bar.met]


def bar_lines(results: Results) -> list[str]:
    """The table of bars."""
    rows = [["what", "against", "ratio", "bar", "", "ours", "the other", "unit"]]
    for bar in bars(results):
        ratio = "-" if bar.ratio is None else f"{bar.ratio:.3g}x"
        limit = f"{'<=' if bar.at_most else '>='} {bar.bar:g}x"
        rows.append(
            [
                bar.what,
                bar.other_name,
                ratio,
                limit,
                _verdict(bar),
                _number(bar.ours),
                _number(bar.other),
                bar.unit,
            ]
        )
    return _table(rows, 2)


def _row(name: str, side: str, summary: Summary, best: float | None, unit: str) -> list[str]:
    low, high = sorted((summary.worst, summary.best))
    return [
        name,
        side,
        f"{summary.median / best:.2f}x" if best else "",
        _number(low),
        _number(summary.median),
        _number(high),
        unit,
        f"{summary.spread:.0%}",
        f"{summary.slow:.0%}",
        str(summary.count),
    ]


def group_lines(results: Results, group: str) -> list[str]:
    """One group: a table a metric, best first, then who is absent or failed."""
    cases = [case for case in results.cases if case.group == group]
    lines: list[str] = []
    for key, metric in METRICS.items():
        found = [
            (summary, case)
            for case in cases
            if (summary := results.summary(case.group, case.name, key))
        ]
        if not found:
            continue
        higher = metric.higher_is_better
        best = None  # the floor's figures are of different things: no best among them
        if group != "floor":
            found.sort(key=lambda pair: pair[0].median, reverse=higher)
            best = found[0][0].median
        ratio = "/ best" if best else ""
        rows = [[key, "", ratio, "min", "median", "max", "", "spread", "slow", "n"]]
        for summary, case in found:
            rows.append(_row(case.name, case.side, summary, best, metric.unit))
        lines += [*_table(rows, 2), ""]
    for case in cases:
        if state := results.state(case):
            lines.append(f"{case.name}: {state}")
    return lines


def report(results: Results) -> str:
    """Everything a run has to say."""
    dropped = sum(not repetition.kept for repetition in results.repetitions)
    lines = ["", "The bars: ratios of medians of this run", ""]
    lines += bar_lines(results)
    for group, title in GROUPS.items():
        if not any(case.group == group for case in results.cases):
            continue
        lines += ["", "", f"{group}: {title}", "", *group_lines(results, group)]
    lines += [
        "",
        f"Bracket: a bare cache line, usually {results.usual_line_ns:.0f} ns to and fro; "
        f"{results.elsewhere:.0%} of the brackets were further than {PLACEMENT}x from that, and "
        f"{dropped} of {len(results.repetitions)} repetitions beside them were dropped.",
        "slow: share of repetitions at less than half the candidate's best speed. "
        "spread: (max - min) / median.",
    ]
    return "\n".join(lines)
