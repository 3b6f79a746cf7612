"""Claims about objectives, families of methods, and what a domain that was never seen loses."""

from __future__ import annotations

from claims_embedding import MUSGRAVE, NO_CLASS_ERROR
from claims_training import ROTH
from claims_types import Arm, Claim, Expected

SEARCHED = "each with the same small search on folds of the training classes"
COST = "Epochs of the base are so many times as many that both take as long; times of objectives.md."


def _searched(name: str, time: float = 1.0) -> Arm:
    return Arm(objective=name, time=time)


def _pair(
    name: str, says: str, source: str, base: str, other: str, expected: Expected = "more", small: float = 0.005
) -> Claim:
    return Claim(
        name,
        "objectives",
        says=says,
        source=source,
        setup=f"{SEARCHED}; base: {base}; other: {other}",
        base=_searched(base),
        other=_searched(other),
        expected=expected,
        small=small,
    )


PAIRS = (
    _pair(
        *("no_progress_pairs", "The oldest pair loss is as good as the newest.", MUSGRAVE),
        *("Contrastive", "MultiSimilarity", "alike", 0.01),
    ),
    _pair(
        *("no_progress_triplet", "The triplet loss is as good as the margin loss.", MUSGRAVE),
        *("Triplet", "MarginLoss", "alike", 0.01),
    ),
    _pair(
        *("proxy_anchor", "Proxy-Anchor is better than ProxyNCA++.", "Kim et al., CVPR 2020, arXiv 2003.13911"),
        *("ProxyNca", "ProxyAnchor"),
    ),
    _pair(
        *("proxynca_plus", "ProxyNCA++ is better than ProxyNCA.", "Teh et al., ECCV 2020, arXiv 2004.01113"),
        *("ProxyNca_original", "ProxyNca"),
    ),
    _pair(
        *("arc_margin", "ArcFace's margin is better than none.", "Deng et al., CVPR 2019, arXiv 1801.07698"),
        *("Softmax", "ArcFace"),
    ),
    _pair(
        *("cos_margin", "CosFace's margin is better than none.", "Wang et al., CVPR 2018, arXiv 1801.09414"),
        *("Softmax", "CosFace"),
    ),
    _pair(
        *("arc_or_cos", "CosFace, which 1st place's code has, is as good as ArcFace, which its text has.", "GUIE 2022"),
        *("ArcFace", "CosFace", "alike", 0.01),
    ),
    _pair(
        *(
            "soft_triple",
            "Several centres a class are better than one.",
            "Qian et al., ICCV 2019, arXiv 1909.05235",
        ),
        *("Softmax", "SoftTriple"),
    ),
    _pair(
        *(
            "strong_baseline",
            "Normalised softmax is as good as pair losses.",
            "Zhai and Wu, BMVC 2019, arXiv 1811.12649",
        ),
        *("MultiSimilarity", "Softmax", "alike", 0.01),
    ),
    _pair(
        *("consistent_margin", "The threshold-consistent margin gains over its base loss.", "TCM, arXiv 2307.04047"),
        *("Softmax", "Softmax_TCM"),
    ),
)
OBJECTIVES = (
    *PAIRS,
    Claim(
        "saturation",
        "objectives",
        says="Under equal conditions methods hardly differ.",
        source=f"{ROTH}; {MUSGRAVE}",
        setup="distance between the quartiles of mP@5 of all searched objectives",
        statistic="quartiles apart",
        expected="less",
        than=0.02,
        small=0.0,
        note=f"{NO_CLASS_ERROR} For comparison: half the interval for other classes is about .036.",
    ),
    Claim(
        "papers_order",
        "objectives",
        says="The order of the papers' own numbers is the order of the methods.",
        source="R@1 on SOP of 17 papers, shared/facts/objectives.md section 8",
        setup="rank correlation of the papers' R@1 with mP@5 after an equal search",
        statistic="papers and ours",
        small=0.2,
        note=f"{NO_CLASS_ERROR} The papers have other backbones, widths and years.",
    ),
    Claim(
        "order_depends_on_search",
        "objectives",
        says="The order of methods depends on how much each was tuned.",
        source=MUSGRAVE,
        setup="rank correlation, over 39 objectives, of mP@5 with published settings and after an equal search",
        statistic="default and searched",
        expected="less",
        than=0.9,
        small=0.0,
        note=NO_CLASS_ERROR,
    ),
    Claim(
        "nmi_misses",
        "objectives",
        says="NMI orders methods otherwise than MAP@R.",
        source=f"{MUSGRAVE}; {ROTH}: correlation .50 to .97",
        setup="rank correlation of NMI and MAP@R over the searched objectives",
        statistic="NMI and MAP@R",
        expected="less",
        than=0.9,
        small=0.0,
        note=NO_CLASS_ERROR,
    ),
    Claim(
        "recall_misses",
        "objectives",
        says="R@1 orders methods otherwise than MAP@R.",
        source=MUSGRAVE,
        setup="rank correlation of R@1 and MAP@R over the searched objectives",
        statistic="R@1 and MAP@R",
        expected="less",
        than=0.9,
        small=0.0,
        note=NO_CLASS_ERROR,
    ),
)


def _family(name: str, says: str, source: str, base: str, other: str, time: float) -> Claim:
    return Claim(
        name,
        "families",
        says=says,
        source=source,
        setup=f"{SEARCHED}; base: {base}, {time:g} x the epochs; other: {other}",
        base=_searched(base, time),
        other=_searched(other),
        note=COST,
    )


# The factors are CPU seconds an epoch of part published of objectives.csv: the method's over its base loss's.
FAMILIES = (
    _family(
        *("diva", "DiVA is better than its base loss.", "Milbich et al., ECCV 2020, arXiv 2004.13458"),
        *("MarginLoss", "Diva", 2.2),
    ),
    _family(
        *("mic", "MIC is better than its base loss.", "Roth et al., ICCV 2019, arXiv 1909.11574"),
        *("MarginLoss", "Mic", 3.0),
    ),
    _family(
        *("sharing", "Shared features are better than the base loss.", "Milbich et al., TPAMI 2020, arXiv 2004.05582"),
        *("MarginLoss", "SharingMatters", 1.8),
    ),
    _family(
        *(
            "divide",
            "Divide and Conquer is better than its base loss.",
            "Sanakoyeu et al., CVPR 2019, arXiv 1906.05990",
        ),
        *("MarginLoss", "DivideConquer", 1.1),
    ),
    _family(
        *("pads", "PADS is better than its base loss.", "Roth et al., CVPR 2020, arXiv 2003.11113"),
        *("MarginLoss", "Pads", 1.0),
    ),
    _family(
        *("bier", "BIER is better than one embedding.", "Opitz et al., TPAMI 2018, arXiv 1801.04815"),
        *("Contrastive", "Bier", 1.7),
    ),
    _family(
        *("xbm", "A memory of earlier batches gains.", "Wang et al., CVPR 2020, arXiv 1912.06798"),
        *("Contrastive", "Contrastive_memory", 3.0),
    ),
    _family(
        *("group_loss", "The Group Loss is better than softmax.", "Elezi et al., ECCV 2020, arXiv 1912.00385"),
        *("Softmax", "GroupLoss", 1.2),
    ),
    _family(
        *(
            "message_passing",
            "Message passing is better than softmax.",
            "Seidenschwarz et al., ICML 2021, arXiv 2102.07753",
        ),
        *("Softmax", "MessagePassing", 1.5),
    ),
)
UNSEEN_DOMAIN = f"{NO_CLASS_ERROR} Each of four domains is left out in turn; tests/benchmarks/universal.md."


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
    )


INFUSING = "Infusing, arXiv 2508.12137: +31 in the domain, -6 outside"
OURS = "this project, shared/facts/universal_64d.md"
SHIFT = (
    _left_out(
        *("head_forgets", "A trained head loses domains that it never saw, against the tower's features.", INFUSING),
        *("head and features, never seen", "less"),
    ),
    _left_out(
        *("head_forgets_more", "It loses them against PCA of the same width, too.", OURS),
        *("head and PCA, never seen", "less"),
    ),
    _left_out(
        *("pca_start", "A head that starts from PCA keeps more of them than one with a random start.", OURS),
        *("PCA start, never seen",),
    ),
    _left_out(
        *("distillation_keeps", "Distilling the tower's cosines keeps more of them.", "13th place of GUIE; Infusing"),
        *("distillation, never seen",),
    ),
    _left_out(
        *("refit", "A projection refitted on unlabelled images of the new domain gains there.", OURS),
        *("refit, never seen",),
    ),
    _left_out(
        *("width_keeps", "128 numbers keep more of a new domain than 64.", OURS),
        *("width, never seen",),
    ),
)
