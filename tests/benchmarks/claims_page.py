"""Writes claims.md and a chart for each family, from the CSV files of claims.py alone."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from claims_types import REPRODUCED, Claim, Found
from objectives_charts import dot_chart

from guie.files import whole_file

OPENING = "<!-- conclusions: written by hand, kept by claims.py -->"
CLOSING = "<!-- /conclusions -->"
SOME_SEEDS = "not all seeds yet"
COMMAND = "python tests/benchmarks/claims.py --data-root ../shared/data"
FAMILIES = {
    "layers": "Which layers, which rates",
    "sampling": "Images of a batch",
    "data": "Training images and labels",
    "dimension": "Width, reduction, codes",
    "objectives": "Objectives",
    "geometry": "Geometry",
    "families": "Families of methods, time counted",
    "tricks": "Tricks",
    "shift": "A domain that was never seen",
}
INTRODUCTION = f"""# What the field claims, measured

`{COMMAND}`: {{processors}}; code {{commits}}; {{minutes}} CPU minutes
in all. `--claim NAME --again` measures one row anew, prints it and changes no file; `--list` names all claims.

Each row is a claim that somebody has published, and a comparison here: minibench's four small domains (7,935 real
images, half of the classes unseen), and if nothing else is said a 64-d head on the cached features of an ImageNet
MobileNetV2 at 224 px, 20 epochs. **This is small.** A verdict is about this set-up, not about a ViT-H on millions of
images.

**Rule of the verdicts**, written before the runs ([claims_types.py](claims_types.py)): with five seeds, the difference
of mP@5 (other less base, same seed, same queries) has a 95 % interval in which classes and seeds both count.
*more* and *less* are reproduced if the whole interval is on the claimed side of 0, and contradicted if a difference of
.005 on that side is excluded. *no more* is *more* with the two verdicts exchanged. *alike* is reproduced if the whole
interval lies within the named tolerance, and contradicted if it lies outside. All else is undecided. Every row that was
run is here; none was run again until it fitted.

{{counts}}
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
    for family in FAMILIES:
        dots = _dots([claim for claim in claims if claim.family == family], found)
        if dots:
            name = f"{FAMILIES[family]}: difference of mP@5, other less base"
            texts[f"claims/{family}.svg"] = dot_chart(name, list(dots), {"mean and 95 % interval": dots})
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        with whole_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return list(texts)


def found_of(claim: Claim, rows: pd.DataFrame) -> Found | None:
    """What the seeds of a claim say; None before two of them are there."""
    own = rows[(rows["claim"] == claim.name) & rows["value"].notna()]
    return Found.of(own["value"], own["class_error"]) if len(own) > 1 else None


def row_of(claim: Claim, rows: pd.DataFrame, found: Found) -> list[str]:
    """The cells of a claim: claim, source, set-up, both sides, difference, expected, verdict, seeds, CPU minutes."""
    own = rows[rows["claim"] == claim.name]
    sides = [_number(own[side].mean()) if own[side].notna().any() else "" for side in ("base", "other")]
    expected = claim.expected
    if claim.expected == "alike":
        expected = f"alike ± {_number(claim.small)}"
    elif claim.than:
        expected = f"{claim.expected} than {_number(claim.than)}"
    verdict = found.verdict(claim) if found.n_seeds == len(claim.seeds) else SOME_SEEDS
    return [
        f"`{claim.name}` {claim.says}",
        claim.source,
        claim.setup + (f" *{claim.note}*" if claim.note else ""),
        *sides,
        f"{_signed(found.mean, claim)} ± {_number(found.half)}",
        expected,
        f"**{verdict}**" if verdict == REPRODUCED else verdict,
        str(found.n_seeds),
        f"{own['cpu_s'].sum() / 60:.1f}",
    ]


def _page(claims: Sequence[Claim], found: Mapping[str, Found], rows: pd.DataFrame, conclusions: str) -> str:
    whole = [claim for claim in claims if claim.name in found and found[claim.name].n_seeds == len(claim.seeds)]
    verdicts = pd.Series([found[claim.name].verdict(claim) for claim in whole])
    told = ", ".join(f"{n} {verdict}" for verdict, n in verdicts.value_counts().items())
    n_missing = len(claims) - len(found)
    n_some = len(found) - len(whole)
    open_ones = f"\n{n_some} have no verdict yet, since not all of their seeds are there." if n_some else ""
    open_ones += f"\n{n_missing} further claims are written down and not measured yet." if n_missing else ""
    lines = [
        INTRODUCTION.format(
            processors=", ".join(sorted(rows["processor"].unique())),
            commits=", ".join(rows["commit"].unique()),
            minutes=round(rows["cpu_s"].sum() / 60),
            counts=f"{len(whole)} claims are measured: {told}.{open_ones}",
        ),
        f"{OPENING}{conclusions}{CLOSING}",
    ]
    for family, title in FAMILIES.items():
        own = [claim for claim in claims if claim.family == family]
        measured = [claim for claim in own if claim.name in found]
        lines += ["", f"## {title}", ""]
        if _dots(own, found):
            lines += [f"![{title}: differences with their intervals](claims/{family}.svg)", ""]
        if measured:
            heads = "claim | source | set-up | base | other | difference | expected | verdict | seeds | CPU min"
            lines += [f"| {heads} |", "|" + "---|" * len(heads.split("|"))]
            lines += ["| " + " | ".join(row_of(claim, rows, found[claim.name])) + " |" for claim in measured]
            lines.append("")
        if rest := [claim.name for claim in own if claim.name not in found]:
            text = f"Not measured yet: {', '.join(f'`{name}`' for name in rest)}."
            lines += textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def _dots(claims: Sequence[Claim], found: Mapping[str, Found]) -> dict[str, tuple[float, float]]:
    """Difference and half its interval, of claims about mP@5 of two sides."""
    return {
        claim.name: (found[claim.name].mean, found[claim.name].half)
        for claim in claims
        if claim.name in found and claim.base is not None and claim.metric.startswith("mp5")
    }


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}"


def _signed(value: float, claim: Claim) -> str:
    """With a sign where it is a difference, or a correlation."""
    return ("+" if value >= 0 else "-") + _number(abs(value))


def _conclusions(path: Path) -> str:
    """What a person wrote into claims.md; empty where there is none."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return text.partition(OPENING)[2].partition(CLOSING)[0] or "\n"
