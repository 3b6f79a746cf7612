"""Backbone and neck of one stage."""

from __future__ import annotations

from torch import nn

from guie.model.backbone import Backbone
from guie.model.neck import Neck


class Embedder(nn.Module):
    """Pixels -> feature (the backbone's output) -> embedding (the neck's)."""

    def __init__(self, backbone: Backbone, neck: Neck) -> None:
        """Keeps the two parts."""
        super().__init__()
        self.backbone = backbone
        self.neck = neck
