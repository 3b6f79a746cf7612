"""The section about the embedding: spectrum, similarities of pairs, and the map."""

from __future__ import annotations

from html import escape

import numpy as np

from guie.report.charts import Line, line_chart, map_chart, marker_key
from guie.report.embedding import TILE_PX, Embedding, Map
from guie.report.geometry import Similarities, bin_centres
from guie.report.markup import absent, figure, legend, note, section

BINS_DRAWN = 100
SIZE = (380, 230)
PAIRS = (("positives", "one class", "one"), ("negatives", "two classes", "two"), ("nearest_negatives", "a query's nearest of another class", "three"))
PAIR_KEYS = tuple((style, label) for _, label, style in PAIRS)
SPECTRUM, ENERGY, SIMILARITIES = "Spectrum, % of the variance", "Cumulative energy, %", "Similarities, % of the pairs of each kind"


def spectrum_chart(embedding: Embedding) -> str:
    """The share of variance of each direction."""
    shares = embedding.spectrum.shares
    xs = list(range(1, len(shares) + 1))
    return line_chart("Spectrum of the embedding", [Line("share", "one", xs, [100 * float(s) for s in shares])], "component", True, size=SIZE)


def energy_chart(embedding: Embedding) -> str:
    """The share of variance of the first directions together; with PCA also what it keeps of the training features."""
    lines = [_cumulative("embedding", "one", embedding.spectrum.shares)]
    if embedding.pca_shares is not None:
        lines.append(_cumulative("features kept by PCA", "two", embedding.pca_shares))
    return line_chart("Cumulative energy of the embedding", lines, "components", True, size=SIZE)


def energy_keys(embedding: Embedding) -> list[tuple[str, str]]:
    """Styles of the energy's chart and what they mean."""
    return [("one", "embedding"), *([("two", "training features, as the PCA keeps them")] if embedding.pca_shares is not None else [])]


def similarity_chart(found: Similarities) -> str:
    """How the cosines of pairs are spread, as shares of the pairs of each kind."""
    counts = {style: getattr(found, name).reshape(BINS_DRAWN, -1).sum(axis=1) for name, _, style in PAIRS}
    used = np.flatnonzero(sum(counts.values()))
    keep = slice(max(0, used[0] - 1), used[-1] + 2)
    xs = [round(float(x), 3) for x in bin_centres(BINS_DRAWN)[keep]]
    lines = [Line(label, style, xs, [100 * float(n) / max(1, counts[style].sum()) for n in counts[style][keep]]) for _, label, style in PAIRS]
    return line_chart("Cosine similarities of pairs", lines, "cosine similarity", True, size=SIZE)


def embedding(found: Embedding | None) -> str:
    """What the exported embedding of unseen classes looks like."""
    title = "The embedding"
    if found is None:
        return section("embedding", title, absent("07_embeddings/val_embeddings.npy or val_ids.parquet is absent, or all embeddings are equal."))
    own, n = found.spectrum, len(found.spectrum.shares)
    n90 = int(np.searchsorted(np.cumsum(own.shares), 0.9)) + 1
    text = f"The exported embedding of validation images. Its variance is spread as over {own.effective_dim:.1f} equal directions of {n} "
    text += f"(effective rank); {n90} hold 90% of it."
    charts = [figure(SPECTRUM, spectrum_chart(found)), figure(ENERGY, energy_chart(found), legend(*energy_keys(found)))]
    if found.similarities is not None:
        charts.append(_similarities(found.similarities))
    return section("embedding", title, note(text), f'<div class="thirds">{"".join(charts)}</div>', _map(found.map))


def map_svg(drawn: Map) -> str:
    """The map as a chart."""
    return map_chart("Map of the embedding", drawn.points)


def _cumulative(name: str, style: str, shares: np.ndarray) -> Line:
    return Line(name, style, list(range(1, len(shares) + 1)), [100 * float(s) for s in np.cumsum(shares)])


def _similarities(found: Similarities) -> str:
    median = found.median_positive
    above = [found.share_above(counts, median) for counts in (found.negatives, found.nearest_negatives)]
    text = f"Half of the {found.positives.sum():,} pairs of one class are more alike than {median:.2f}: so are {above[0]:.2%} of "
    text += f"the {found.negatives.sum():,} pairs of two classes, and the nearest wrong image of {above[1]:.0%} of queries. "
    text += f"Bins of {2 / BINS_DRAWN:g}."
    return figure(SIMILARITIES, similarity_chart(found), legend(*PAIR_KEYS), note(text))


def _map(drawn: Map) -> str:
    """The map; the script shows a point's tile beside it, and the arrow keys go from point to point."""
    keys = "".join(f"<li>{marker_key(i)}{escape(name)}</li>" for i, name in enumerate(drawn.domains))
    text = f"{len(drawn.points):,} of {drawn.n_all:,} validation images, whole classes, placed by t-SNE: near means alike, far apart means little. "
    text += "Point at one, touch it, or use the arrow keys on the map; the others of its class stand out."
    image = f'<img src="data:image/jpeg;base64,{drawn.sheet}" alt="">' if drawn.sheet else ""
    size = f'data-columns="{drawn.n_columns}" data-tile="{TILE_PX}"'
    tip = f'<div class="tip" id="tip" hidden><div class="tile" style="width:{TILE_PX}px;height:{TILE_PX}px">{image}</div><span aria-live="polite"></span></div>'
    label = 'role="group" tabindex="0" aria-label="Map of the embedding; arrow keys move from image to image"'
    return f'<h3>Map</h3>{note(text)}<ul class="legend">{keys}</ul><div class="map" id="map" {label} {size}>{map_svg(drawn)}{tip}</div>'
