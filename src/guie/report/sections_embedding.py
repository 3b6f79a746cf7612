"""The section about the embedding: spectrum, similarities of pairs, and the map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from guie.report.charts import Line, line_chart
from guie.report.charts_map import map_chart, marker_key
from guie.report.embedding import TILE_PX, Embedding, Map
from guie.report.geometry import Similarities, bin_centres
from guie.report.markup import filled
from guie.report.sections_dimensions import dimension_rows

BINS_DRAWN = 100
SIZE = (380, 230)
# Field of `Similarities`, what the legend says, and style.
PAIRS = (
    ("positives", "one class", "one"),
    ("negatives", "two classes", "two"),
    ("nearest_negatives", "a query's nearest of another class", "three"),
)
PAIR_KEYS = tuple((style, label) for _, label, style in PAIRS)
SPECTRUM = "Spectrum, % of the variance"
ENERGY = "Cumulative energy, %"
SIMILARITIES = "Similarities, % of the pairs of each kind"


def spectrum_chart(embedding: Embedding) -> Markup:
    """The share of variance of each direction."""
    shares = [100 * float(share) for share in embedding.spectrum.shares]
    line = Line("share", "one", range(1, len(shares) + 1), shares)
    return line_chart("Spectrum of the embedding", [line], "component", is_from_zero=True, size=SIZE)


def energy_chart(embedding: Embedding) -> Markup:
    """The share of variance of the first directions together; with PCA also what it keeps of the training features."""
    lines = [_cumulative("embedding", "one", embedding.spectrum.shares)]
    if embedding.pca_shares is not None:
        lines.append(_cumulative("features kept by PCA", "two", embedding.pca_shares))
    return line_chart("Cumulative energy of the embedding", lines, "components", is_from_zero=True, size=SIZE)


def energy_keys(embedding: Embedding) -> list[tuple[str, str]]:
    """Styles of the energy's chart and what they mean."""
    keys = [("one", "embedding")]
    if embedding.pca_shares is not None:
        keys.append(("two", "features that the PCA was fitted on, as it keeps them"))
    return keys


def similarity_chart(found: Similarities) -> Markup:
    """How the cosines of pairs are spread, as shares of the pairs of each kind."""
    counts = {style: getattr(found, name).reshape(BINS_DRAWN, -1).sum(axis=1) for name, _, style in PAIRS}
    used = np.flatnonzero(sum(counts.values()))
    keep = slice(max(0, used[0] - 1), used[-1] + 2)
    xs = [round(float(x), 3) for x in bin_centres(BINS_DRAWN)[keep]]
    lines = []
    for _, label, style in PAIRS:
        n_pairs = max(1, counts[style].sum())
        lines.append(Line(label, style, xs, [100 * float(n) / n_pairs for n in counts[style][keep]]))
    return line_chart("Cosine similarities of pairs", lines, "cosine similarity", is_from_zero=True, size=SIZE)


def map_svg(drawn: Map) -> Markup:
    """The map as a chart."""
    return map_chart("Map of the embedding", drawn.points)


def embedding(found: Embedding | None, dimensions: pd.DataFrame | None = None) -> Markup:
    """What the exported embedding of the validation images looks like, and its scores at other widths and as codes."""
    if found is None:
        return filled("embedding.html", is_known=False)
    shares = found.spectrum.shares
    return filled(
        "embedding.html",
        is_known=True,
        n_dims=len(shares),
        effective_dim=found.spectrum.effective_dim,
        n_directions_90=int(np.searchsorted(np.cumsum(shares), 0.9)) + 1,
        spectrum={"title": SPECTRUM, "chart": spectrum_chart(found)},
        energy={"title": ENERGY, "chart": energy_chart(found), "legend": energy_keys(found)},
        pairs=None if found.similarities is None else _pairs(found.similarities),
        map=_map(found.map),
        dimensions=[] if dimensions is None else dimension_rows(dimensions),
    )


def _cumulative(name: str, style: str, shares: np.ndarray) -> Line:
    return Line(name, style, range(1, len(shares) + 1), [100 * float(share) for share in np.cumsum(shares)])


def _pairs(found: Similarities) -> dict[str, Any]:
    median = found.median_positive
    return {
        "title": SIMILARITIES,
        "chart": similarity_chart(found),
        "legend": PAIR_KEYS,
        "median": median,
        "n_positives": found.positives.sum(),
        "n_negatives": found.negatives.sum(),
        "negatives_above": found.share_above(found.negatives, median),
        "nearest_above": found.share_above(found.nearest_negatives, median),
        "bin_width": 2 / BINS_DRAWN,
    }


def _map(drawn: Map) -> dict[str, Any]:
    return {
        "chart": map_svg(drawn),
        "legend": [(marker_key(i), name) for i, name in drawn.keys],
        "is_by_class": drawn.is_by_class,
        "n_kinds": len(drawn.kinds),
        "sheet": drawn.sheet,
        "n_columns": drawn.n_columns,
        "tile_px": TILE_PX,
        "n_points": len(drawn.points),
        "n_all": drawn.n_all,
    }
