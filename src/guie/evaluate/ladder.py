"""Door 07: scores every setting of the ladder, with intervals and tests, and keeps the last one's embeddings.

It is not in `embed`, because intervals and tests belong to `evaluate`. Training validates by the host's metric alone
and needs no more than `embed`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from guie.data.packed import PackedImages, images_of
from guie.embed.accelerator import make_accelerator
from guie.embed.ensemble import Combined, MemberFeatures, rows_of
from guie.embed.features import FeatureStore
from guie.embed.fitted import Embedded, check_rows, embed
from guie.embed.pca import MOMENTS, moments_of
from guie.embed.retrieval import Retrieval, mean_of_domains, retrieve, summarise
from guie.evaluate.code_loss import FLOAT
from guie.evaluate.dimensions import (
    FULL,
    ByWidth,
    Widths,
    dimension_table,
    has_widths,
    precisions_by_width,
    width_columns,
    widths_of,
)
from guie.evaluate.intervals import NO_INTERVAL, class_interval, paired_p
from guie.evaluate.metrics import METRICS
from guie.evaluate.protocols import merged, scored
from guie.files import whole_file
from guie.run import DIMENSIONS, Run, commit
from guie.settings.embed import PostProcess, Setting
from guie.settings.fit import TRAINING, FitImages, FitOn, FitWords
from guie.shown import cut

log = logging.getLogger(__name__)
DEEPER = tuple(name for name in METRICS if name not in ("mp5", "r1"))


def score_ladder(run: Run) -> dict[str, Any]:
    """Scores every setting on the validation images, at other widths too. Keeps the neighbours of all settings, and the
    embeddings and PCA of the last, with the intervals of its other widths and their codes (`dimensions.csv`).

    Returns:
        mp5 and r1 of the last setting, and n_settings.
    """
    accelerator = make_accelerator(run.device)
    packed = images_of(run)
    check_rows(run, packed)
    features = MemberFeatures(FeatureStore(run, packed, accelerator))
    val = packed.index.iloc[rows_of(packed, "val")]
    rows: list[dict[str, Any]] = []
    neighbours: list[pd.DataFrame] = []
    before: Retrieval | None = None
    for setting in run.recipe.embed.settings:
        embedded = embed(run, setting, features)
        found = retrieve(embedded.by_split["val"], val["class_id"].to_numpy(), setting.post)
        at_widths = _at_widths(embedded, setting, val) if has_widths(setting) else None
        rows.append(_score_row(run, setting, embedded, found, before, val, at_widths))
        before = found
        _log_scores(rows[-1])
        neighbours.append(_neighbour_table(setting.name, found, val))
    if np.isnan(rows[-1]["mp5_low"]):
        log.info(NO_INTERVAL)
    dimensions = _dimensions(run, embedded, features, at_widths, val)
    if accelerator.is_main_process:
        _write(run, rows, dimensions, neighbours, embedded, packed)
    accelerator.wait_for_everyone()
    return {name: rows[-1][name] for name in ("mp5", "r1")} | {"n_settings": len(rows)}


def _at_widths(embedded: Embedded, setting: Setting, val: pd.DataFrame) -> tuple[Widths, ByWidth]:
    """The widths at which a setting is scored, and its precisions."""
    moments = embedded.moments or moments_of([embedded.combined["train"]])
    own, combined = embedded.by_split["val"], embedded.combined["val"]
    widths = widths_of(setting.whiten, combined, moments, own.shape[1])
    return widths, precisions_by_width(widths, combined, own, val["class_id"].to_numpy())


def _dimensions(
    run: Run,
    embedded: Embedded,
    features: MemberFeatures,
    at_widths: tuple[Widths, ByWidth] | None,
    val: pd.DataFrame,
) -> pd.DataFrame:
    """What other widths of the exported embedding and their codes score. The log tells the widths and the codes of the
    exported one.

    Embeddings of the training images, on which codes are fitted, are added to `embedded` where it has none. Then the
    smaller widths are those of a PCA that is fitted on them.
    """
    final = run.recipe.embed.final
    if "train" not in embedded.by_split:
        embedded.combined["train"] = Combined(run, final, features, "train")
        embedded.by_split["train"] = embedded.combined["train"].whole()
    widths, by_width = at_widths or _at_widths(embedded, final, val)
    table = dimension_table(widths, by_width, embedded, val)
    scores, names = table.set_index(["dim", "code"])["mp5"], {FLOAT: "", FULL: " without PCA"}
    told = [f"{dim}{names[code]} {score:.3f}" for (dim, code), score in scores.items() if code in names]
    log.info("mP@5 at other widths: %s", "; ".join(told))
    told = [f"{code} {score:.3f}" for code, score in scores[widths.dim].items()]
    log.info("mP@5 of codes of %d: %s", widths.dim, "; ".join(told))
    return table


def _log_scores(row: dict[str, Any]) -> None:
    """One line of the log for a row of scores.csv; the interval is left out where there is none."""
    between = "" if np.isnan(row["mp5_low"]) else f" [{row['mp5_low']:.3f}, {row['mp5_high']:.3f}]"
    log.info(
        "%-30s %5d-d   mP@5 %.3f%s   R@1 %.3f", cut(row["setting"], 30), row["dim"], row["mp5"], between, row["r1"]
    )


def _score_row(
    run: Run,
    setting: Setting,
    embedded: Embedded,
    found: Retrieval,
    before: Retrieval | None,
    val: pd.DataFrame,
    at_widths: tuple[Widths, ByWidth] | None,
) -> dict[str, Any]:
    """The setting's row of scores.csv.

    Args:
        run: The run, with its recipe.
        setting: What was scored.
        embedded: Its embeddings, of which those of the validation images are scored.
        found: Their retrieval results.
        before: The results of the setting before; None for the first.
        val: image_id, class_id and domain of the validation images.
        at_widths: See `_at_widths`; None for a setting that has its own width alone.
    """
    members = " + ".join(
        f"{m.stage}@{m.image_px}{f'/{m.patch_stride}' if m.patch_stride else ''}:{m.output}" for m in setting.members
    )
    views = " + ".join("/".join(m.views) for m in setting.members)
    embeddings, projection = embedded.by_split["val"], _projection(setting, embedded.fit_on)
    row = {
        "setting": setting.name,
        "members": members,
        "views": views,
        "projection": projection,
        "dim": embeddings.shape[1],
    }
    n_queries = int(np.isfinite(found.precision).sum())
    scores = summarise(found, val["domain"].to_numpy())
    row |= (
        {"n_queries": n_queries, "n_index": len(val)}
        | {k: round(v, 6) for k, v in scores.items()}
        | {"seed": run.recipe.seed, "commit": commit()}
    )
    chosen = "; ".join(run.recipe.chosen_on_validation(setting))
    row |= _deeper(setting, embeddings, val) | _certainty(found, before, val) | {"chosen_on": _chosen_on(chosen)}
    by_width = at_widths[1] if at_widths else {}
    return row | width_columns(setting, row["dim"], row["mp5"], by_width, val["domain"].to_numpy())


def _deeper(setting: Setting, embeddings: np.ndarray, val: pd.DataFrame) -> dict[str, float]:
    """The other metrics, which look beyond rank 5. They are NaN with post-processing, whose ranking is not that of the
    embeddings alone."""
    if setting.post != PostProcess():
        return dict.fromkeys(DEEPER, np.nan)
    queries = scored(embeddings, val, merged(val))
    return {name: round(mean_of_domains(queries[name].to_numpy(), val["domain"].to_numpy())[0], 6) for name in DEEPER}


def _certainty(found: Retrieval, before: Retrieval | None, val: pd.DataFrame) -> dict[str, float]:
    """The 95 % interval of mp5 by resampling classes, and the p-value of the difference from the row before."""
    class_ids, domains = val["class_id"].to_numpy(), val["domain"].to_numpy()
    low, high = class_interval(found.precision, class_ids, domains)
    p = np.nan if before is None else paired_p(found.precision, before.precision, class_ids, domains)
    return {"mp5_low": round(low, 6), "mp5_high": round(high, 6), "p_vs_previous": round(p, 6)}


def _chosen_on(reasons: str) -> str:
    """The cell chosen_on of scores.csv: the images by whose scores something was chosen; empty where nothing was."""
    return f"validation ({reasons})" if reasons else ""


def _projection(setting: Setting, fit_on: FitOn) -> str:
    """Names the steps after the members, such as `mean power0.5 pca64-whiten0.5 fit:train*0.5,mine*0.5 expand10`."""
    post = setting.post
    words = ["mean"] if setting.combine == "mean" else []
    words += [f"power{setting.power:g}"] if setting.power != 1.0 else []
    words += (
        [f"pca{setting.pca_dim}" + (f"-whiten{setting.whiten:g}" if setting.whiten else "")] if setting.pca_dim else []
    )
    words += [f"fit:{','.join(_fitted(entry) for entry in fit_on)}"] if setting.pca_dim and fit_on != TRAINING else []
    words += [
        f"{name}{value:g}"
        for name, value in (("lengths", post.length_mix), ("expand", post.n_expanded), ("augment", post.n_augmented))
        if value
    ]
    words += [f"rerank{post.rerank_k1}"] if post.rerank_k1 else []
    return " ".join(words) or "none"


def _fitted(entry: FitImages | FitWords) -> str:
    """What of a fit an entry is, with its weight: `mine+other*0.5`, `train*1`, `nouns.txt*0.1`."""
    name = Path(entry.file).name if isinstance(entry, FitWords) else "+".join(entry.sources) or "train"
    return f"{name.replace(' ', '_')}*{entry.weight:g}"


def _neighbour_table(setting: str, found: Retrieval, val: pd.DataFrame) -> pd.DataFrame:
    """The setting's rows of neighbours.parquet."""
    ids = val["image_id"].to_numpy()
    n, k = found.neighbours.shape
    table = pd.DataFrame(
        {
            "setting": setting,
            "query_id": np.repeat(ids, k),
            "rank": np.tile(np.arange(1, k + 1), n),
            "image_id": ids[found.neighbours.ravel()],
            "similarity": found.similarities.ravel(),
            "is_correct": found.is_correct.ravel(),
        }
    )
    return table[found.neighbours.ravel() >= 0]


def _write(
    run: Run,
    rows: list[dict[str, Any]],
    dimensions: pd.DataFrame,
    neighbours: list[pd.DataFrame],
    embedded: Embedded,
    packed: PackedImages,
) -> None:
    """Writes the files of door 07."""
    folder = run.folder(7)
    for split, values in embedded.by_split.items():
        with whole_file(folder / f"{split}_embeddings.npy") as temporary, temporary.open("wb") as handle:
            np.save(handle, values)
        numbers = rows_of(packed, split)
        ids = packed.index.iloc[numbers][["image_id", "class_id", "domain"]].assign(pack_row=numbers)
        with whole_file(folder / f"{split}_ids.parquet") as temporary:
            ids.to_parquet(temporary, index=False)
    for name, fitted in (("pca.npz", embedded.pca), (MOMENTS, embedded.moments)):
        if fitted is not None:
            fitted.save(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    with whole_file(folder / "neighbours.parquet") as temporary:
        pd.concat(neighbours).to_parquet(temporary, index=False)
    with whole_file(folder / DIMENSIONS) as temporary:
        dimensions.to_csv(temporary, index=False)
    with whole_file(folder / "scores.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
