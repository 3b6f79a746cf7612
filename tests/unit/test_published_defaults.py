"""Defaults of the objectives' settings, against the numbers of the papers and of their authors' code.

No loss and no loop can tell a wrong default: every other number trains as well, only worse. So they are read aloud
here, each with its source.
"""

from typing import Any

import pytest

from guie.settings.objectives.bier import Bier
from guie.settings.objectives.divide import HierarchicalDivide
from guie.settings.objectives.graphs import ProxyGml
from guie.settings.objectives.message import MessagePassing
from guie.settings.objectives.mic import Mic
from guie.settings.objectives.miners import DistanceWeighted, MultiSimilarityMiner
from guie.settings.objectives.pads import Pads
from guie.settings.objectives.pairs import Circle, Contrastive, MarginLoss, MultiSimilarity, NtXent, SupCon, Triplet
from guie.settings.objectives.proxies import ProxyAnchor, SoftTriple
from guie.settings.objectives.regularisers import KoLeo, ThresholdConsistentMargin
from guie.settings.objectives.spheres import SphereFace

PUBLISHED: list[tuple[type, dict[str, Any], str]] = [
    (Contrastive, {"margin_cosine": 0.5}, "El-Nouby et al., arXiv 2102.05644"),
    (Triplet, {"margin_distance": 0.2}, "Schroff et al., arXiv 1503.03832"),
    (MarginLoss, {"margin_distance": 0.2, "beta_distance": 1.2}, "Wu et al., arXiv 1706.07567"),
    (MarginLoss, {"beta_lr_factor": 50.0}, "Roth et al., arXiv 2002.08473: 5e-4 beside 1e-5"),
    (MultiSimilarity, {"alpha": 2.0, "beta": 50.0, "base_cosine": 0.5}, "the code of Wang et al., arXiv 1904.06627"),
    (MultiSimilarityMiner, {"epsilon_cosine": 0.1}, "the same"),
    (NtXent, {"temperature": 0.07}, "pytorch-metric-learning 2.9.0"),
    (SupCon, {"temperature": 0.1}, "Khosla et al., arXiv 2004.11362"),
    (Circle, {"margin_cosine": 0.4, "scale": 80.0}, "Sun et al., arXiv 2002.10857, birds and products"),
    (DistanceWeighted, {"cutoff_distance": 0.5, "max_distance": 1.4}, "Wu et al., arXiv 1706.07567"),
    (ProxyAnchor, {"margin_cosine": 0.1, "scale": 32.0, "proxy_lr_factor": 100.0}, "Kim et al., arXiv 2003.13911"),
    (
        SoftTriple,
        {"n_centers": 10, "scale": 20.0, "temperature": 0.1, "margin_cosine": 0.01, "merge_weight": 0.2},
        "the code of Qian et al., arXiv 1909.05235",
    ),
    (SoftTriple, {"center_lr_factor": 100.0}, "the same: 1e-2 beside 1e-4"),
    (ProxyGml, {"n_proxies": 12, "neighbor_share": 0.05, "proxy_weight": 0.3}, "Zhu et al., arXiv 2010.13636, CUB"),
    (ProxyGml, {"proxy_lr_factor": 300.0}, "the same: .03 beside 1e-4"),
    (KoLeo, {"weight": 0.7}, "El-Nouby et al., arXiv 2102.05644, IRT_R"),
    (
        ThresholdConsistentMargin,
        {"positive_margin_cosine": 0.9, "negative_margin_cosine": 0.5, "positive_weight": 1.0, "negative_weight": 1.0},
        "Zhang et al., arXiv 2307.04047",
    ),
    (Bier, {"n_learners": 3, "slope": 2.0, "threshold_cosine": 0.5, "negative_factor": 25.0}, "arXiv 1801.04815"),
    (HierarchicalDivide, {"mask_weight": 0.01, "mask_lr_factor": 100.0, "every_epochs": 2}, "the authors' code"),
    (MessagePassing, {"n_layers": 1, "n_heads": 2, "temperature": 0.2, "dropout": 0.1}, "arXiv 2102.07753, CUB"),
    (Mic, {"margin_distance": 0.2, "beta_distance": 1.2}, "Roth et al., arXiv 1909.11574"),
    (
        Pads,
        {"n_bins": 29, "low_distance": 0.1, "high_distance": 1.4, "beta_distance": 0.6, "policy_lr": 0.01},
        "the code of Roth et al., arXiv 2003.11113",
    ),
    (Pads, {"start_low_distance": 0.3, "start_high_distance": 0.7, "every_steps": 30}, "the same"),
    (SphereFace, {"angle_factor": 4, "plain_weight_end": 5.0}, "Liu et al., arXiv 1704.08063"),
]


@pytest.mark.parametrize(("kind", "published", "source"), PUBLISHED, ids=[row[0].__name__ for row in PUBLISHED])
def test_default_is_the_published_number(kind: type, published: dict[str, Any], source: str) -> None:
    settings = kind()
    assert {name: getattr(settings, name) for name in published} == published, source
