"""Writes claims.md and a chart for each family, from the CSV files of claims.py alone."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from claims_types import OURS, REPRODUCED, Claim, Found, digest
from objectives_charts import dot_chart
from objectives_results import is_card

from guie.files import whole_file

OPENING = "<!-- conclusions: written by hand, kept by claims.py -->"
CLOSING = "<!-- /conclusions -->"
SOME_SEEDS = "not all seeds yet"
COMMAND = "python tests/benchmarks/claims.py --data-root ../shared/data"
TITLES = {
    "layers": "Which layers, which rates",
    "sampling": "Images of a batch",
    "data": "Training images and labels",
    "dimension": "Width, reduction, codes",
    "objectives": "Objectives",
    "geometry": "Geometry",
    "families": "Families of methods, time counted",
    "tricks": "Tricks",
    "shift": "Far classes, and a domain that was never seen",
}
INTRODUCTION = """# What the field claims, measured

{measured}

A row is a claim, who makes it, and a comparison here: minibench's four small domains (7,935 real images, half of the
classes unseen), and if nothing else is said a 64-d head on the cached features of an ImageNet MobileNetV2 at 224 px, 20
epochs of 30 batches. **This is small.** A verdict is about this set-up, not about a ViT-H on millions of images.

**Rule of the verdicts** ([claims_types.py](claims_types.py) has all of it, and what was changed after a review): five
seeds, both sides with the same seed and queries. The difference (other less base, of mP@5 if nothing else is said) has
a 95 % interval for other seeds and for other classes; correlations, for other objectives; shifts, for other domains.
The number behind the expectation is the smallest difference that matters. *more*, *less*: reproduced if the whole
interval is on the claimed side; contradicted if a difference that matters is excluded there. *no more*: the same, with
the verdicts exchanged. *no less*: reproduced if a loss that matters is excluded; contradicted if one is certain.
*alike*: reproduced if the whole interval is that near to 0, contradicted if all of it is farther. After the review all
rows were measured anew, once; every one is here, and none was run again until it fitted.

With so many claims some verdicts are luck: an interval misses the truth on one side in one of forty. Claims that share
a side share its luck; many have the same five ArcFace heads as their base. **†** marks what this project found or knew
before the rule was written: its sign is no prediction.

{counts}
"""
NOT_DONE = """
## Not done

Named by the field and not measured here: head and backbone alternating for many turns.
"""


def write_page(folder: Path, claims: Sequence[Claim], rows: pd.DataFrame) -> list[str]:
    """Writes claims.md and the charts.

    Args:
        folder: Of claims.md; charts go to its folder claims.
        claims: In the order of the page.
        rows: Of all CSV files, those of the claims as they are now.

    Returns:
        The names of the files.
    """
    found = {claim.name: own for claim in claims if (own := found_of(claim, rows)) is not None}
    page = folder / "claims.md"
    texts = {"claims.md": _page(claims, found, rows, _conclusions(page))}
    for family in TITLES:
        dots = _dots([claim for claim in claims if claim.family == family], found)
        if dots:
            name = f"{TITLES[family]}: difference of mP@5, other less base"
            parts = {"mean of five seeds": dots}
            texts[f"claims/{family}.svg"] = dot_chart(name, list(dots), parts, "seeds and classes")
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        with whole_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return list(texts)


def found_of(claim: Claim, rows: pd.DataFrame) -> Found | None:
    """What the seeds of a claim say; None before two of them are there."""
    own = rows[(rows["claim"] == claim.name) & rows["value"].notna()]
    if len(own) < 2:
        return None
    return Found.of(own["value"], own["error"], float(own["n_freedom"].min()), claim.share_that_stays)


def verdict_of(claim: Claim, found: Found) -> str:
    """The verdict, once all seeds are there."""
    return found.verdict(claim) if found.n_seeds == len(claim.seeds) else SOME_SEEDS


def is_marked(claim: Claim) -> bool:
    """Whether its sign is no prediction of this page."""
    return claim.is_known or claim.source.startswith(OURS)


def row_of(claim: Claim, rows: pd.DataFrame, found: Found) -> list[str]:
    """The cells of a claim: claim, source, set-up, both sides, difference, expected, verdict, seeds, CPU minutes."""
    own = rows[rows["claim"] == claim.name]
    sides = [_number(own[side].mean()) if own[side].notna().any() else "" for side in ("base", "other")]
    expected = f"{claim.expected} than {_number(claim.than)}" if claim.than else claim.expected
    problems = own["problem"].dropna().unique()
    verdict = f"no verdict: {problems[0]}" if len(problems) else verdict_of(claim, found)
    return [
        f"`{claim.name}`{' †' if is_marked(claim) else ''} {claim.says}",
        claim.source,
        claim.setup + (f" *{claim.note}*" if claim.note else ""),
        *sides,
        f"{_signed(found.mean)} ± {_number(found.half)}",
        f"{expected}, {_number(claim.small, n_digits=4 if claim.small * 1000 % 1 else 3)}",
        f"**{verdict}**" if verdict == REPRODUCED else verdict,
        str(found.n_seeds),
        f"{own[['base_cpu_s', 'other_cpu_s']].sum().sum() / 60:.1f}",
    ]


def _page(claims: Sequence[Claim], found: Mapping[str, Found], rows: pd.DataFrame, conclusions: str) -> str:
    whole = [claim for claim in claims if claim.name in found and found[claim.name].n_seeds == len(claim.seeds)]
    marked = [claim for claim in whole if is_marked(claim)]
    unmarked = [claim for claim in whole if not is_marked(claim)]
    told = f"{_verdicts(unmarked, found)}. Of those marked †, {len(marked)}: {_verdicts(marked, found)}."
    n_missing = len(claims) - len(found)
    n_some = len(found) - len(whole)
    open_ones = f" Without a verdict, since not all of their seeds are there: {n_some}." if n_some else ""
    open_ones += f" Written down and not measured yet: {n_missing}." if n_missing else ""
    n_comparisons = len({digest(claim.base, claim.other, claim.metric, claim.statistic) for claim in unmarked})
    counts = f"{len(unmarked)} claims of others are measured by {n_comparisons} comparisons: {told}{open_ones}"
    measured = (
        f"`{COMMAND}`: {'; '.join(sorted(rows['processor'].unique()))}; code {', '.join(rows['commit'].unique())}; "
        f"{_cpu_s(claims, rows) / 60:.0f} CPU minutes of training and embedding, without packing, the backbone's "
        "features and the searches of objectives.py. `--list` names all claims; `--claim NAME --again` measures one "
        "anew, prints it and changes no file."
    )
    lines = [
        INTRODUCTION.format(measured=_wrapped(measured), counts=_wrapped(counts)),
        f"{OPENING}{conclusions}{CLOSING}",
    ]
    for family, title in TITLES.items():
        own = [claim for claim in claims if claim.family == family]
        measured = [claim for claim in own if claim.name in found]
        lines += ["", f"## {title}", ""]
        if _dots(own, found):
            lines += [f"![{title}: differences with their intervals](claims/{family}.svg)", ""]
        if measured:
            heads = "claim | source | set-up | base | other | difference | expected | verdict | seeds | CPU min"
            lines += [f"| {heads} |", "|" + "---|" * len(heads.split("|"))]
            lines += ["| " + " | ".join(row_of(claim, rows, found[claim.name])) + " |" for claim in measured]
        missing = _not_found([claim.name for claim in own if claim.name not in found], rows)
        for text in (*_where(own, rows), *missing):
            lines += ["", _wrapped(text)]
    return "\n".join(lines) + f"\n{NOT_DONE}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _where(claims: Sequence[Claim], rows: pd.DataFrame) -> list[str]:
    """A sentence about the processors of some claims, where the page has rows of several."""
    own = sorted(rows.loc[rows["claim"].isin([claim.name for claim in claims]), "processor"].unique())
    if not own or rows["processor"].nunique() == 1:
        return []
    on_card = " CPU minutes beside a card do not count above." if any(map(is_card, own)) else ""
    return [f"Measured on: {'; '.join(own)}.{on_card}"]


def _not_found(names: Sequence[str], rows: pd.DataFrame) -> list[str]:
    """Sentences about claims without a row of the table."""
    problems = rows.dropna(subset=["problem"]).groupby("claim")["problem"].first()
    texts = [f"Could not be trained: `{name}`: {problems[name]}" for name in names if name in problems.index]
    rest = [f"`{name}`" for name in names if name not in problems.index]
    return [*texts, *([f"Not measured yet: {', '.join(rest)}."] if rest else [])]


def _verdicts(claims: Sequence[Claim], found: Mapping[str, Found]) -> str:
    """How many of which verdict."""
    verdicts = pd.Series([found[claim.name].verdict(claim) for claim in claims], dtype=str)
    return ", ".join(f"{n} {verdict}" for verdict, n in verdicts.value_counts().items()) or "none"


def _cpu_s(claims: Sequence[Claim], rows: pd.DataFrame) -> float:
    """CPU seconds of all sides; a side that several claims share counts once. Those beside a card tell nothing."""
    rows = rows[~rows["processor"].map(is_card)]
    taken: dict[tuple[str, int], float] = {}
    by_name = {claim.name: claim for claim in claims}
    for row in rows.to_dict("records"):
        for arm, seconds in zip(by_name[row["claim"]].arms, (row["base_cpu_s"], row["other_cpu_s"]), strict=False):
            if not math.isnan(seconds):  # it could be trained
                taken[digest(arm), row["seed"]] = seconds
    return sum(taken.values())


def _dots(claims: Sequence[Claim], found: Mapping[str, Found]) -> dict[str, tuple[float, float]]:
    """Difference and half its interval, of claims about mP@5 of two sides that have all their seeds."""
    return {
        claim.name: (found[claim.name].mean, found[claim.name].half)
        for claim in claims
        if claim.name in found and claim.arms and claim.metric.startswith("mp5")
        if found[claim.name].n_seeds == len(claim.seeds)
    }


def _number(value: float, n_digits: int = 3) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.{n_digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}"


def _signed(value: float) -> str:
    return ("+" if value >= 0 else "-") + _number(abs(value))


def _conclusions(path: Path) -> str:
    """What a person wrote into claims.md; empty where there is none."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return text.partition(OPENING)[2].partition(CLOSING)[0] or "\n"
