"""Backbone, neck and classifier of one stage, loaded and saved together."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from guie.model.backbone import Backbone
from guie.model.fitting import misfit
from guie.model.margin import MarginClassifier
from guie.model.neck import Neck
from guie.settings.stage import Stage

PARTS = ("backbone", "neck", "classifier")


class Embedder(nn.Module):
    """What a stage trains: pixels -> feature -> embedding -> loss."""

    def __init__(self, backbone: Backbone, neck: Neck, classifier: MarginClassifier) -> None:
        """The three parts, by name."""
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.classifier = classifier

    def forward(self, inputs: Tensor, labels: Tensor, margin_rad: float) -> Tensor:
        """The mean loss, a scalar; `inputs` are normalised pixels [n, 3, px, px], or cached features [n, feature_dim]."""
        features = self.backbone(inputs) if inputs.ndim == 4 else inputs
        return self.classifier(self.neck(features), labels, margin_rad)


def build_embedder(backbone: Backbone, stage: Stage, n_classes: int, seed: int) -> Embedder:
    """An embedder with a fresh neck and classifier, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        neck = Neck(backbone.feature_dim, stage.neck)
        classifier = MarginClassifier(n_classes, stage.neck.dim, stage.objective)
    return Embedder(backbone, neck, classifier)


def part_of(weights: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """The tensors of one part, without its prefix."""
    return {name.removeprefix(f"{part}."): tensor for name, tensor in weights.items() if name.startswith(f"{part}.")}


def load_parts(embedder: Embedder, weights: dict[str, Tensor], fresh: Collection[str], where: str) -> None:
    """Loads all parts strictly, but for those that the stage starts anew.

    Raises:
        ValueError: names or shapes that do not fit, with the part and the file.
    """
    for part in PARTS:
        if part in fresh or (part == "classifier" and "objective" in fresh):
            continue
        module: nn.Module = getattr(embedder, part)
        complaint = misfit(module.state_dict(), part_of(weights, part))
        if complaint:
            raise ValueError(f"{where}: its {part} does not fit this stage ({complaint}); if it should start anew, name it in the stage's `start.fresh`")
        module.load_state_dict(part_of(weights, part), strict=True)
