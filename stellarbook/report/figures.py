"""Figures: one style, a caption, an alternative text and a badge that says what the data are.

Shown in every chapter. A figure leaves a chapter only through `show`, which puts the badge into
the picture, so that a copied figure still says whether its stars are real, and hands name, caption
and alternative text to the page through the output's metadata (`report.run` moves them to where
MyST-NB reads them).
"""

import io
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.ticker import MaxNLocator, NullLocator
from PIL import Image
from scipy.stats import binned_statistic_2d

DATA = ("real", "simulated spectra of real stars", "simulated stars", "no data")
"""What a figure or a claim can be made of; `no data` is for drawings of a method."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's colours, which colour-blind readers tell apart."""

BADGE = {
    "real": "#1b7837",
    "simulated spectra of real stars": "#b35806",
    "simulated stars": "#762a83",
    "no data": "#4d4d4d",
}
METADATA = "stellarbook_figure"
DPI = 96


def style():
    """Set matplotlib's defaults to the book's style (a chapter's first cell calls it)."""
    plt.style.use(Path(__file__).with_name("stellarbook.mplstyle"))


def median_map(axis, x, y, value, bins, **options):
    """Draw the median of a value in each cell of a map; returns what a colour bar needs.

    x, y, value are (n,) and may hold NaN, which is left out; bins are the two lists of edges.
    """
    known = np.isfinite(x) & np.isfinite(y) & np.isfinite(value)
    cells, x_edges, y_edges, _ = binned_statistic_2d(
        x[known], y[known], value[known], "median", bins
    )
    return axis.pcolormesh(x_edges, y_edges, cells.T, **options)


def plain_ticks(axis, which="y", ticks=None):
    """Plain numbers on a logarithmic axis, `x` or `y`: those given, or even ones in its limits.

    For an axis that spans few decades, where powers of ten would name too few places.
    """
    low, high = sorted(getattr(axis, f"get_{which}lim")())
    if ticks is None:
        even = MaxNLocator(5).tick_values(low, high)
        for steps in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7), None):
            ticks = np.outer(10.0 ** np.arange(-4, 5), steps) if steps else even
            ticks = ticks[(ticks >= low) & (ticks <= high)]
            if len(ticks) > 2:
                break
    getattr(axis, f"set_{which}ticks")(ticks, [f"{tick:g}" for tick in ticks])
    getattr(axis, f"{which}axis").set_minor_locator(NullLocator())


def legend_above(axis, ncols=3):
    """One legend above all panels of a figure, of what `axis` shows."""
    axis.figure.legend(
        *axis.get_legend_handles_labels(),
        ncols=ncols,
        loc="outside upper center",
        fontsize=8,
    )


def show(fig, name, *, caption, alt, data, source=""):
    """Publish a figure: the badge goes into the picture, the rest to the page. Closes the figure.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
    name : str
        Key of the figure, `fig-` and lower-case words, unique on its page. The page itself links
        to `fig-line`, another one to `fig-10-line`, with the chapter's number.
    caption : str
        Markdown. What is drawn, and how to read it; mathematics and citations work.
    alt : str
        What a reader who cannot see the figure should know. Plain text.
    data : str
        One of `DATA`.
    source : str
        The sample in a few words, written beside the badge.

    Raises
    ------
    ValueError
        A caption or an alternative text is empty, the name is not a key, or `data` is unknown.
    """
    if data not in DATA:
        raise ValueError(f"figure {name}: data is {data!r}, expected one of {', '.join(DATA)}")
    if not re.fullmatch(r"fig-[a-z0-9-]+", name):
        raise ValueError(f"figure name is {name!r}, expected fig- and lower-case words")
    if not caption.strip() or not alt.strip():
        raise ValueError(f"figure {name} needs a caption and an alternative text")
    # Below the lowest artist, which is known once the layout is made: no axis label meets it.
    fig.draw_without_rendering()
    bottom = fig.get_tightbbox().y0 / fig.get_figheight()
    fig.text(
        0.995,
        bottom - 0.06 / fig.get_figheight(),
        f"● {data}{': ' + source if source else ''}",
        color=BADGE[data],
        fontsize=7.5,
        ha="right",
        va="top",
    )
    drawn, png = io.BytesIO(), io.BytesIO()
    fig.savefig(drawn, format="png", dpi=DPI, bbox_inches="tight")
    # A palette of the figure's own: a quarter of the size, and no eye sees it.
    picture = Image.open(drawn).convert("RGB")
    picture = picture.quantize(40, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    picture.save(png, format="png", optimize=True)
    plt.close(fig)
    record = {"name": name, "caption": _one_line(caption), "alt": _one_line(alt), "data": data}
    display(
        {"image/png": png.getvalue(), "text/plain": f"<figure {name}>"},
        raw=True,
        metadata={METADATA: record},
    )


def _one_line(text):
    return " ".join(text.split())
