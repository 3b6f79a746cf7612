"""Claims about classes that are far from those of the training, and about a domain that was never seen."""

from __future__ import annotations

from dataclasses import replace

from claims_data import ARC
from claims_embedding import PCA_64
from claims_stages import head
from claims_types import OURS, RUNGS, Arm, Claim, Expected, Rung

OODML = "Milbich et al., NeurIPS 2021, arXiv 2107.09562"
MARGIN = Arm((head("MarginLoss"),))
FAR = {
    "start": "on a random split",
    "swap": "after all swaps",
    "remove": "after all swaps, the nearer half of the classes removed",
}


def _at(arm: Arm, rung: Rung) -> Arm:
    return replace(arm, rung=rung)


UNSEEN_DOMAIN = "Each of four domains is left out in turn; the interval is for other domains (universal.md)."


def _left_out(name: str, says: str, source: str, statistic: str, expected: Expected = "more") -> Claim:
    return Claim(
        name,
        "shift",
        says=says,
        source=source,
        setup=f"a domain that nothing was fitted on; {statistic.partition(',')[0]}",
        statistic=statistic,
        expected=expected,
        note=UNSEEN_DOMAIN,
        is_known=True,
    )


INFUSING = "Infusing, arXiv 2508.12137: +31 in the domain, -6 outside"
OURS_64D = f"{OURS}, shared/facts/universal_64d.md"
LADDER = (
    Claim(
        "ladder",
        "shift",
        says="Swapping and removing classes moves both sides apart.",
        source=OODML,
        setup="metric FID of the backbone's features, mean of domains; base: random split; other: the last rung",
        base=_at(PCA_64, "start"),
        other=_at(PCA_64, "remove"),
        metric="frechet",
        note="Each domain's classes are split for themselves. This is the scale of the rows below, no claim about "
        "training. The interval is over the seeds alone.",
    ),
    *(
        Claim(
            f"far_gain_{rung}",
            "shift",
            says=f"A trained head is better than PCA of the same width, {FAR[rung]}.",
            source=f"{OODML}: gains of metric learning shrink as the shift grows",
            setup="base: PCA-64 of unit features; other: ArcFace of scale 64; both fitted to the training side",
            base=_at(PCA_64, rung),
            other=_at(ARC, rung),
        )
        for rung in RUNGS
    ),
    *(
        Claim(
            f"far_order_{rung}",
            "shift",
            says=f"The better of two losses stays the better one, {FAR[rung]}.",
            source=f"{OODML}: no method is best at every shift",
            setup="base: ArcFace of scale 64; other: MarginLoss, which is better on the seeds' own splits",
            base=_at(ARC, rung),
            other=_at(MARGIN, rung),
        )
        for rung in RUNGS
    ),
)
SHIFT = (
    *LADDER,
    _left_out(
        "head_forgets",
        "A trained head loses domains that it never saw, against the tower's features.",
        INFUSING,
        "head and features, never seen",
        expected="less",
    ),
    _left_out(
        "head_forgets_more",
        "It loses them against PCA of the same width, too.",
        OURS_64D,
        "head and PCA, never seen",
        expected="less",
    ),
    _left_out(
        "pca_start",
        "A head that starts from PCA keeps more of them than one with a random start.",
        OURS_64D,
        "PCA start, never seen",
    ),
    _left_out(
        "distillation_keeps",
        "Distilling the tower's cosines keeps more of them.",
        "13th place of GUIE; Infusing",
        "distillation, never seen",
    ),
    _left_out(
        "refit",
        "A projection refitted on unlabelled images of the new domain gains there.",
        OURS_64D,
        "refit, never seen",
    ),
    _left_out(
        "width_keeps",
        "128 numbers keep more of a new domain than 64.",
        OURS_64D,
        "width, never seen",
    ),
)
