"""Draw a run: for each group and metric, every kept repetition as a dot, the median as a bar."""

from __future__ import annotations

import statistics
from pathlib import Path

from cases import GROUPS
from measure import METRICS, Results

_COLOURS = {"ours": "tab:blue", "floor": "tab:gray", "peer": "tab:orange"}


def plot(results: Results, directory: Path) -> list[Path]:
    """Write one PNG a group and metric into `directory`; return their paths.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for group, title in GROUPS.items():
        for key, metric in METRICS.items():
            cases = [
                (case, values)
                for case in results.cases
                if case.group == group and (values := results.values(group, case.name, key))
            ]
            if not cases:
                continue
            figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.35 * len(cases)))
            for place, (case, values) in enumerate(reversed(cases)):
                colour = _COLOURS[case.side]
                axes.barh(place, statistics.median(values), color=colour, alpha=0.4)
                axes.plot(values, [place] * len(values), "o", color=colour, markersize=3)
            axes.set_yticks(range(len(cases)), [case.name for case, _ in reversed(cases)])
            positive = [value for _, values in cases for value in values if value > 0]
            if positive and max(positive) > 30 * min(positive):
                axes.set_xscale("log")
            axes.set_xlabel(metric.unit)
            axes.set_title(f"{title}: {key}", fontsize=10)
            path = directory / f"{group}-{key}.png"
            figure.savefig(path, dpi=120, bbox_inches="tight")
            pyplot.close(figure)
            written.append(path)
    return written
