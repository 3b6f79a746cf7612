"""Claims about objectives and families of methods."""

from __future__ import annotations

from claims_embedding import MUSGRAVE
from claims_training import ROTH
from claims_types import Arm, Claim, Expected

SEARCHED = "each with the same small search on folds of the training classes"
COST = (
    "The base trains for so many more epochs that both take as long, by objectives.csv: heads on cached features. "
    "Where a backbone moves, the ratios of time are near 1."
)
FOR_OBJECTIVES = "The interval is for other objectives."
AGREEMENT = (
    "Agreement is the rank correlation over objectives between two seeds: one seed's classes order them otherwise than "
    "another's, whatever the metric, so 0 says that both order alike."
)


def _searched(name: str, time: float = 1.0) -> Arm:
    return Arm(objective=name, time=time)


def _pair(name: str, says: str, source: str, *, base: str, other: str, expected: Expected = "more") -> Claim:
    return Claim(
        name,
        "objectives",
        says=says,
        source=source,
        setup=f"{SEARCHED}; base: {base}; other: {other}",
        base=_searched(base),
        other=_searched(other),
        expected=expected,
        small=0.005 if expected == "more" else 0.01,
    )


PAIRS = (
    _pair(
        "no_progress_pairs",
        "The newest pair loss is no better than the oldest.",
        MUSGRAVE,
        base="Contrastive",
        other="MultiSimilarity",
        expected="no more",
    ),
    _pair(
        "no_progress_triplet",
        "The margin loss is no better than the triplet loss.",
        MUSGRAVE,
        base="Triplet",
        other="MarginLoss",
        expected="no more",
    ),
    _pair(
        "proxy_anchor",
        "Proxy-Anchor is better than ProxyNCA++.",
        "Kim et al., CVPR 2020, arXiv 2003.13911",
        base="ProxyNca",
        other="ProxyAnchor",
    ),
    _pair(
        "proxynca_plus",
        "ProxyNCA++ is better than ProxyNCA.",
        "Teh et al., ECCV 2020, arXiv 2004.01113",
        base="ProxyNca_original",
        other="ProxyNca",
    ),
    _pair(
        "arc_margin",
        "ArcFace's margin is better than none.",
        "Deng et al., CVPR 2019, arXiv 1801.07698",
        base="Softmax",
        other="ArcFace",
    ),
    _pair(
        "cos_margin",
        "CosFace's margin is better than none.",
        "Wang et al., CVPR 2018, arXiv 1801.09414",
        base="Softmax",
        other="CosFace",
    ),
    _pair(
        "arc_or_cos",
        "CosFace, which 1st place's code has, scores as ArcFace does, which its text has.",
        "GUIE 2022",
        base="ArcFace",
        other="CosFace",
        expected="alike",
    ),
    _pair(
        "soft_triple",
        "Several centres a class are better than one.",
        "Qian et al., ICCV 2019, arXiv 1909.05235",
        base="Softmax",
        other="SoftTriple",
    ),
    _pair(
        "strong_baseline",
        "Normalised softmax is as good as pair losses.",
        "Zhai and Wu, BMVC 2019, arXiv 1811.12649",
        base="MultiSimilarity",
        other="Softmax",
        expected="no less",
    ),
    _pair(
        "consistent_margin",
        "The threshold-consistent margin gains over its base loss.",
        "TCM, arXiv 2307.04047",
        base="Softmax",
        other="Softmax_TCM",
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
        note=f"{FOR_OBJECTIVES} For comparison: half the interval of one objective for other classes is about .036.",
        is_known=True,
    ),
    Claim(
        "papers_order",
        "objectives",
        says="The order of the papers' own numbers is the order of the methods.",
        source="R@1 on SOP of 17 methods, shared/facts/objectives.md section 8",
        setup="rank correlation of the papers' R@1 with mP@5 after an equal search",
        statistic="papers and ours",
        small=0.2,
        note=f"{FOR_OBJECTIVES} The papers have other backbones, widths (64 to 2,048) and years.",
    ),
    Claim(
        "order_depends_on_search",
        "objectives",
        says="The order of methods depends on how much each was tuned.",
        source=MUSGRAVE,
        setup="agreement of mP@5 with published settings and after an equal search, less that of each with itself",
        statistic="published and searched",
        expected="less",
        small=0.05,
        note=f"{FOR_OBJECTIVES} {AGREEMENT}",
        is_known=True,
    ),
    *(
        Claim(
            f"{metric.lower().replace('@', '')}_constructed",
            "objectives",
            says=f"{metric} can miss what MAP@R sees.",
            source=f"{MUSGRAVE}, figure 2",
            setup=f"two built embeddings for which {metric} is 1; MAP@R where {how}, less that of narrow groups",
            statistic=f"{metric} sees no difference, constructed",
            expected="less",
            note="Built, not trained (claims_constructed.py): it shows what can be, not what is.",
        )
        for metric, how in (("R@1", "classes are scattered in pairs"), ("NMI", "classes touch"))
    ),
    *(
        Claim(
            name,
            "objectives",
            says=says,
            source=source,
            setup=f"agreement of {metric} with MAP@R, less that of each with itself, over the searched objectives",
            statistic=f"{metric} and MAP@R",
            expected="less",
            small=0.05,
            note=f"{FOR_OBJECTIVES} {AGREEMENT}",
            is_known=True,
        )
        for name, metric, says, source in (
            (
                "nmi_misses",
                "NMI",
                "NMI orders methods otherwise than MAP@R.",
                f"{MUSGRAVE}; {ROTH}: correlation with mAP .50 to .97",
            ),
            ("recall_misses", "R@1", "R@1 orders methods otherwise than MAP@R.", MUSGRAVE),
            ("mp5_misses", "mP@5", "The contest's mP@5 orders methods otherwise than MAP@R.", "asked here"),
        )
    ),
)


def _family(name: str, says: str, source: str, *, base: str, other: str, time: float) -> Claim:
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


# `time` is CPU seconds an epoch of part published of objectives.csv: the method's median over its base loss's.
FAMILIES = (
    _family(
        "diva",
        "DiVA is better than its base loss.",
        "Milbich et al., ECCV 2020, arXiv 2004.13458",
        base="MarginLoss",
        other="Diva",
        time=2.3,
    ),
    _family(
        "mic",
        "MIC is better than its base loss.",
        "Roth et al., ICCV 2019, arXiv 1909.11574",
        base="MarginLoss",
        other="Mic",
        time=4.1,
    ),
    _family(
        "sharing",
        "Shared features are better than the base loss.",
        "Milbich et al., TPAMI 2020, arXiv 2004.05582",
        base="MarginLoss",
        other="SharingMatters",
        time=1.9,
    ),
    _family(
        "divide",
        "Divide and Conquer is better than its base loss.",
        "Sanakoyeu et al., CVPR 2019, arXiv 1906.05990",
        base="MarginLoss",
        other="DivideConquer",
        time=1.1,
    ),
    _family(
        "pads",
        "PADS is better than its base loss.",
        "Roth et al., CVPR 2020, arXiv 2003.11113",
        base="MarginLoss",
        other="Pads",
        time=1.1,
    ),
    _family(
        "bier",
        "BIER is better than one embedding.",
        "Opitz et al., TPAMI 2018, arXiv 1801.04815",
        base="Contrastive",
        other="Bier",
        time=1.8,
    ),
    _family(
        "xbm",
        "A memory of earlier batches gains.",
        "Wang et al., CVPR 2020, arXiv 1912.06798",
        base="Contrastive",
        other="Contrastive_memory",
        time=3.0,
    ),
    _family(
        "group_loss",
        "The Group Loss is better than softmax.",
        "Elezi et al., ECCV 2020, arXiv 1912.00385",
        base="Softmax",
        other="GroupLoss",
        time=1.2,
    ),
    _family(
        "message_passing",
        "Message passing is better than softmax.",
        "Seidenschwarz et al., ICML 2021, arXiv 2102.07753",
        base="Softmax",
        other="MessagePassing",
        time=1.5,
    ),
)
