"""What a stage trains: an embedder and the objective that it is trained with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from guie.model.backbone import Backbone
from guie.model.embedder import Embedder
from guie.model.fitting import misfit
from guie.model.neck import Neck
from guie.settings.stage import Stage
from guie.train.objectives.base import Objective
from guie.train.objectives.build import build_objective
from guie.train.retain import Retained

TRAINED_PARTS = {
    "objective": ("objective",),
    "neck": ("neck",),
    "head": ("neck", "objective"),
    "backbone": ("backbone",),
    "all": ("backbone", "neck", "objective"),
}


class Model(Embedder):
    """Backbone, neck and objective; the names of its weights begin with the part: `backbone.`, `neck.`,
    `objective.`.

    Attributes:
        retained: What holds the backbone at the stage's start, or None; no part of the weights.
    """

    retained: Retained | None = None

    def __init__(self, backbone: Backbone, neck: Neck, objective: Objective) -> None:
        """The three parts, by name."""
        super().__init__(backbone, neck)
        self.objective = objective

    @property
    def head(self) -> tuple[nn.Module, nn.Module]:
        """The parts that see the whole batch: neck and objective."""
        return self.neck, self.objective

    def open(self, stage: Stage) -> None:
        """Lets the parts train that the stage trains, and freezes the others."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in TRAINED_PARTS[stage.trains])

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that train, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def changing(self) -> dict[str, nn.Parameter]:
        """The parameters that a stage may change, by name: those that train, and the head's, which `begin_epoch` may
        set."""
        return {n: p for n, p in self.named_parameters() if p.requires_grad or not n.startswith("backbone.")}

    def result(self) -> dict[str, Tensor]:
        """The weights that a finished stage leaves: all but the objective's buffers, which end with the stage."""
        buffers = {name for name, _ in self.named_buffers() if name.startswith("objective.")}
        return {name: tensor for name, tensor in self.state_dict().items() if name not in buffers}

    def changing_buffers(self) -> dict[str, Tensor]:
        """The buffers that training changes: batch norm's statistics in the neck, and the objective's state."""
        stored = self.state_dict(keep_vars=True)
        parts = ("neck", "objective")
        return {n: b for n, b in self.named_buffers() if n.split(".")[0] in parts and n in stored}

    def neck_buffers(self) -> dict[str, Tensor]:
        """The buffers that training changes and a later stage starts from: batch norm's statistics in the neck."""
        return {name: buffer for name, buffer in self.changing_buffers().items() if name.startswith("neck.")}

    def set_mode(self, stage: Stage) -> None:
        """Trained parts, and the neck's dropout, in training mode; a frozen backbone and a frozen neck's batch norm in
        eval mode."""
        self.train()
        if stage.is_neck_frozen:
            self.neck.norm.eval()
        if stage.is_backbone_frozen:
            self.backbone.eval()


def build_model(
    backbone: Backbone,
    stage: Stage,
    counts: Tensor,
    labels: Tensor,
    seed: int,
    taught_dims: Mapping[str, int] | None = None,
) -> Model:
    """A model with a fresh neck and a fresh objective, the same for the same seed.

    Args:
        backbone: With its weights.
        stage: What neck and objective are made of.
        counts: [n_classes], training rows of each class.
        labels: int64 [n_items], the class of each training image.
        seed: Of torch's random generator.
        taught_dims: Numbers of what each teacher of the objective gives: of an embedding, or of a feature.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU alone, where they are built
        neck = Neck(backbone.feature_dim, stage.neck)
        objective = build_objective(stage, backbone.feature_dim, counts, labels, taught_dims)
    return Model(backbone, neck, objective)


def load_parts(
    model: Model, weights_of: Callable[[str], dict[str, Tensor]], fresh: Collection[str], where: str
) -> None:
    """Loads neck and objective strictly, but for what the stage starts anew and the objective's buffers.

    Args:
        model: Whose parts are filled.
        weights_of: Gives the tensors of a part.
        fresh: Parts that are left as they are.
        where: Which row starts from which, for messages.

    Raises:
        ValueError: names or shapes that do not fit, with the part and the row that it comes from.
    """
    for part in ("neck", "objective"):
        if part in fresh:
            continue
        module: nn.Module = getattr(model, part)
        own = weights_of(part)
        buffers = {name for name, _ in module.named_buffers()} if part == "objective" else set()
        expected = {name: tensor for name, tensor in module.state_dict().items() if name not in buffers}
        if complaint := misfit(expected, own):
            raise ValueError(
                f"{where}: its {part} does not fit this stage ({complaint}); if it should start anew, name it in "
                "start.fresh"
            )
        module.load_state_dict(own, strict=not buffers)
