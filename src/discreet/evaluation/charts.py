"""Pictures of findings, as SVG or PNG by the file's ending."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from discreet.errors import SettingError
from discreet.evaluation.tradeoff import Row
from discreet.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = {".svg": "svg", ".png": "png"}
COLOURS = {
    "auto": "#0b6e4f",
    "subspace": "#0b6e4f",
    "popularity": "#8a5a00",
    "gram": "#5b3fa8",
    "ials": "#a0307f",
    "als": "#a23b3b",
    "als-adaptive": "#c46a2b",
    "sgd": "#2b6cb0",
}


def draw_tradeoff(rows: Sequence[Row], path: str | Path, *, metric: str = "recall@20") -> Path:
    """Draw quality against epsilon, one line a kind of model, a dashed line for its ceiling without privacy.

    Raises:
        SettingError: the ending is neither .svg nor .png.
        FileNotWritten: the file cannot be written.
    """
    from matplotlib.figure import Figure

    target = Path(path)
    kind_of_file = chart_format(target)
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for kind in dict.fromkeys(row.kind for row in rows):
        _draw_kind(axes, [row for row in rows if row.kind == kind], metric)
    axes.set(
        xscale="log",
        xlabel="epsilon, and of 100 guesses whether a person was in, how many can be right",
        ylabel=metric,
        ylim=(0, None),
    )
    odds = {row.epsilon: row.odds for row in sorted(rows, key=lambda row: row.epsilon) if row.private}
    axes.set_xticks(list(odds), [f"{epsilon:g}\n{math.ceil(100 * chance)}" for epsilon, chance in odds.items()])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    axes.set_title("What privacy costs in quality", loc="left", fontsize=12)
    content = io.BytesIO()
    figure.savefig(content, format=kind_of_file, dpi=160, metadata={})
    write_bytes(target, content.getvalue())
    return target


def chart_format(path: Path) -> str:
    """Return ``svg`` or ``png``, by the file's ending; worth asking before anything is measured.

    Raises:
        SettingError: the ending is neither .svg nor .png.
    """
    if path.suffix.lower() not in FORMATS:
        raise SettingError(f"{path.name}: a chart is an .svg or a .png")
    return FORMATS[path.suffix.lower()]


def _draw_kind(axes: Axes, rows: list[Row], metric: str) -> None:
    kind = rows[0].kind
    colour = COLOURS.get(kind, "#333333")
    private = sorted((row for row in rows if row.private), key=lambda row: row.epsilon)
    if private:
        values = [row.quality[metric] for row in private]
        axes.errorbar(
            [row.epsilon for row in private],
            [value.mean for value in values],
            yerr=[value.error for value in values],
            color=colour,
            marker="o",
            capsize=3,
            label="the recipe's choice" if kind == "auto" else kind,
        )
    for row in rows:
        if not row.private:
            axes.axhline(
                row.quality[metric].mean, color=colour, linestyle="--", linewidth=1, label=f"{row.model}, NOT private"
            )
