"""Pictures of statistics, by matplotlib, in colours that colour-blind people tell apart."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from io import BytesIO
from typing import Any, ParamSpec

import numpy as np

from streamnorm.convergence import Curve
from streamnorm.sources.needs import needed
from streamnorm.value import Value

__all__ = [
    "picture_of_arrays",
    "picture_of_channels",
    "picture_of_convergence",
    "picture_of_groups",
    "rendered",
]

# Okabe & Ito (2008), "Color Universal Design".
_BLUE, _ORANGE, _GREEN, _RED, _PURPLE, _SKY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9",
)  # fmt: skip
_COLOURS = (_BLUE, _RED, _GREEN, _ORANGE, _PURPLE, _SKY)
_GREY, _LIGHT = "#666666", "#CCCCCC"
_MOST_NAMES = 40
"""Channels that get a name on the axis; of more, bands are drawn."""
_MOST_IN_PANEL = 8
_MIXED = 20.0
"""Ratio of ranges from which channels need scales of their own."""
_MOST_PANELS = 36
_STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _GREY,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "font.size": 9,
    "legend.frameon": False,
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "svg.hashsalt": "streamnorm",
}


P = ParamSpec("P")


def _styled(draw: Callable[P, Any]) -> Callable[P, Any]:
    """Have a picture drawn in our style, whatever the user's is."""

    @wraps(draw)
    def drawn(*arguments: P.args, **options: P.kwargs) -> Any:
        with needed("matplotlib", "plot", "drawing").rc_context(_STYLE):
            return draw(*arguments, **options)

    return drawn


def rendered(figure: Any, form: str) -> bytes:
    """Return a picture as the bytes of a file: the same for the same numbers.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    form : {"png", "svg", "pdf"}
    """
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    buffer = BytesIO()
    with needed("matplotlib", "plot", "drawing").rc_context(_STYLE):
        figure.savefig(buffer, format=form, metadata=undated[form])
    return buffer.getvalue()


@_styled
def picture_of_channels(value: Value, title: str, ddof: float = 0) -> Any:
    """Draw mean, std and extremes of every channel.

    Parameters
    ----------
    value : Moments, ExactMoments or WeightedMoments
    title : str
    ddof : float
        See `Moments.variance`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    spread = value.maximum - value.minimum
    spread = spread[np.isfinite(spread) & (spread > 0)]
    mixed = spread.size > 1 and spread.max() / spread.min() > _MIXED
    if value.channels > _MOST_NAMES:
        return _in_one(value, title, ddof, _bands, 8)
    if mixed:
        return _strips(value, title, ddof)
    return _in_one(value, title, ddof, _bars, 1.4 + 0.45 * value.channels)


def _figure(width: float, height: float, *grid: int, **options: Any) -> tuple[Any, Any]:
    """Make a figure, large enough for its legend."""
    figures = needed("matplotlib.figure", "plot", "drawing")
    figure = figures.Figure(figsize=(max(width, 5.0), height), layout="constrained")
    return figure, figure.subplots(*grid, **options)


def _names(value: Value) -> list[str]:
    return [_plain(name) for name in value.channel_names]


def _plain(text: str) -> str:
    """Return a text without matplotlib's marks of formulas."""
    return text.replace("$", r"\$")


def _in_one(value: Value, title: str, ddof: float, draw: Callable[..., None], width: float) -> Any:
    """Draw all channels on one scale."""
    figure, axes = _figure(width, 3.6)
    draw(axes, value, ddof)
    axes.set_xlabel("channel")
    axes.set_ylabel("value")
    axes.set_title(_plain(title))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _bars(axes: Any, value: Value, ddof: float) -> None:
    """Draw a bar of mean ± std on a line from minimum to maximum, for each channel."""
    at, mean, std = np.arange(value.channels), value.mean, value.std(ddof)
    known = value.extremes_known & (value.count > 0)
    if known.any():
        axes.vlines(
            at[known], value.minimum[known], value.maximum[known], _GREY, lw=1,
            label="minimum to maximum",
        )  # fmt: skip
    # The lower edge of a bar would be that of the picture.
    axes.use_sticky_edges = False
    axes.bar(at, 2 * std, 0.5, mean - std, color=_BLUE, alpha=0.45, label="mean ± std")
    axes.hlines(mean, at - 0.25, at + 0.25, _BLUE, lw=2, label="mean")
    axes.set_xticks(at, _names(value), rotation=_rotation(_names(value)), ha=_side(_names(value)))
    axes.set_xlim(-0.7, value.channels - 0.3)


def _rotation(names: Sequence[str]) -> int:
    return 45 if max(map(len, names)) > 4 else 0


def _side(names: Sequence[str]) -> str:
    return "right" if _rotation(names) else "center"


def _strips(value: Value, title: str, ddof: float) -> Any:
    """Draw every channel on a scale of its own, from its minimum to its maximum, with numbers."""
    figure, axes = _figure(7.5, 0.9 + 0.36 * value.channels)
    mean, std, low, high = value.mean, value.std(ddof), value.minimum, value.maximum
    for row in range(value.channels):
        width = high[row] - low[row]
        axes.hlines(row, 0, 1, _GREY, lw=1)
        if np.isfinite(width) and width > 0:
            place, half = (mean[row] - low[row]) / width, std[row] / width
            axes.barh(row, 2 * half, 0.55, place - half, color=_BLUE, alpha=0.45)
            axes.vlines(place, row - 0.275, row + 0.275, _BLUE, lw=2)
        axes.text(-0.02, row, f"{low[row]:.4g}", ha="right", va="center", color=_GREY)
        text = f"{high[row]:.4g}"
        axes.text(1.02, row, text, ha="left", va="center", color=_GREY)
        axes.text(1.2, row, f"{mean[row]:.5g} ± {std[row]:.4g}", ha="left", va="center")
    axes.set_yticks(range(value.channels), _names(value))
    axes.tick_params(axis="y", length=0, pad=38)
    axes.set_ylim(value.channels - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.6)
    axes.set_xticks([])
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_title(f"{_plain(title)}\nfrom minimum to maximum, each on its own scale; mean ± std")
    return figure


def _bands(axes: Any, value: Value, ddof: float) -> None:
    """Draw mean, std and extremes of many channels as bands along them."""
    at, mean, std = np.arange(value.channels), value.mean, value.std(ddof)
    axes.fill_between(
        at, value.minimum, value.maximum, color=_LIGHT, alpha=0.6, lw=0, label="minimum to maximum"
    )
    axes.fill_between(at, mean - std, mean + std, color=_BLUE, alpha=0.45, lw=0, label="mean ± std")
    axes.plot(at, mean, color=_BLUE, lw=1, label="mean")
    axes.set_xlim(0, value.channels - 1)


@_styled
def picture_of_arrays(arrays: Mapping[str, Value], title: str, ddof: float = 0) -> Any:
    """Draw mean, std and extremes of every channel of several arrays, a panel each.

    Parameters
    ----------
    arrays : mapping of str to Moments
    title : str
    ddof : float
        See `Moments.variance`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, panels, hidden = _panels(arrays, "arrays", 2, 4.5, 2.2)
    for axes, value in panels:
        draw = _bars if value.channels <= _MOST_IN_PANEL else _bands
        draw(axes, value, ddof)
    figure.suptitle(f"{_plain(title)}{hidden}", x=0.01, ha="left", fontsize=10)
    first, _ = panels[0]
    figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _panels(
    values: Mapping[str, Value],
    what: str,
    columns: int,
    width: float,
    height: float,
    **shared: bool,
) -> tuple[Any, list[tuple[Any, Value]], str]:
    """Make a panel for each value, with its name, and say how many have none."""
    shown = list(values.items())[:_MOST_PANELS]
    columns = min(len(shown), columns)
    rows = -(-len(shown) // columns)
    size = 0.6 + width * columns, 1.1 + height * rows
    figure, grid = _figure(*size, rows, columns, squeeze=False, **shared)
    panels = []
    for axes, (name, value) in zip(grid.flat, shown, strict=False):
        axes.set_title(_plain(name))
        panels.append((axes, value))
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    more = len(values) > len(shown)
    hidden = f" (the first {len(shown)} of {len(values)} {what})" if more else ""
    return figure, panels, hidden


@_styled
def picture_of_convergence(curve: Curve) -> Any:
    """Draw how mean and std settle along the samples, and where the shortcut's std does.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, (means, stds) = _figure(7.5, 3.8, 1, 2)
    shown = range(min(len(curve.names), len(_COLOURS)))
    for channel in shown:
        colour = _COLOURS[channel]
        means.plot(curve.samples, curve.mean[:, channel], color=colour, lw=1.5)
        stds.plot(
            curve.samples, curve.std[:, channel], color=colour, lw=1.5,
            label=f"channel {_plain(curve.names[channel])}",
        )  # fmt: skip
        stds.plot(curve.samples, curve.shortcut[:, channel], color=colour, lw=1.2, ls=(0, (4, 2)))
    stds.plot([], [], color=_GREY, lw=1.2, ls=(0, (4, 2)), label="mean of the samples' stds: wrong")
    for axes, what in ((means, "mean"), (stds, "std")):
        axes.set_xscale("log")
        axes.set_xlabel("samples seen")
        axes.set_title(what)
        axes.grid(axis="y", color=_LIGHT, lw=0.5)
    more = len(curve.names) - len(_COLOURS)
    hidden = f" (the first {len(_COLOURS)} of {len(curve.names)} channels)" if more > 0 else ""
    figure.suptitle(f"{_plain(curve.source)}{hidden}", x=0.01, ha="left", fontsize=10)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


@_styled
def picture_of_groups(groups: Mapping[str, Value], title: str, ddof: float = 0) -> Any:
    """Draw mean ± std of every channel, a panel a group, beside those of all groups together.

    Parameters
    ----------
    groups : mapping of str to Moments
        Of the same channels.
    title : str
    ddof : float

    Raises
    ------
    ValueError
        If the groups have different channels.

    Returns
    -------
    matplotlib.figure.Figure
    """
    channels = {value.channels for value in groups.values()}
    if len(channels) > 1:
        msg = f"groups of {' and '.join(map(str, sorted(channels)))} channels have no common axes"
        raise ValueError(msg)
    width = max(1.7, 0.9 + 0.2 * channels.pop())
    columns = 5 if len(groups) > 8 else 4
    figure, panels, hidden = _panels(
        groups, "groups", columns, width, 1.5, sharex=True, sharey=True
    )
    means = np.array([value.mean for value in groups.values()])
    there = np.isfinite(means)
    with np.errstate(all="ignore"):
        middle = np.where(there, means, 0).sum(0) / there.sum(0)
    for axes, value in panels:
        at, mean, std = np.arange(value.channels), value.mean, value.std(ddof)
        axes.hlines(middle, at - 0.4, at + 0.4, _LIGHT, lw=3)
        axes.vlines(at, mean - std, mean + std, _BLUE, lw=2, alpha=0.5)
        axes.plot(at, mean, "o", color=_BLUE, ms=4)
        if value.channels <= _MOST_NAMES:
            axes.set_xticks(at, _names(value), rotation=_rotation(_names(value)))
        axes.set_xlim(-0.6, value.channels - 0.4)
    figure.suptitle(
        f"{_plain(title)}{hidden}\nmean ± std; grey: the mean over groups",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    return figure
