"""A model that takes a step in a few milliseconds, and its training images: noise around one colour per class."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from guie.settings.neck import Neck as NeckSettings
from guie.settings.stage import Stage
from guie.train.gradient import StepInputs
from guie.train.model import Model, build_model

N_CLASSES, WIDTH, DIM = 5, 8, 6
COUNTS = torch.tensor([3, 9, 2, 30, 5])
LABELS = torch.arange(200) % N_CLASSES  # of the training images
COLORS = 4 * torch.randn(N_CLASSES, 3, 1, 1, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
NECK = NeckSettings(dim=DIM, dropouts=(0.2,), has_norm=True)


class Tower(nn.Module):
    """A backbone of one convolution."""

    feature_dim = WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixels)


def small_model(stage: Stage, seed: int = 0) -> Model:
    """A model that depends on the stage and the seed alone. Its parts that the stage trains require gradients."""
    torch.manual_seed(seed)
    model = build_model(Tower(), stage, COUNTS, LABELS, seed, {"teacher": 3})  # type: ignore[arg-type]
    model.open(stage)
    return model


def inputs_at(step: int, labels: Tensor, items: Tensor, dtype: torch.dtype = torch.float32) -> StepInputs:
    """The images of a step. They depend on the step, the labels and the items alone."""
    noise = torch.randn(len(labels), 3, 8, 8, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    return StepInputs((noise + COLORS[labels]).to(dtype), labels, items, torch.zeros_like(items), True)


class SmallPack:
    """A pack of 64 training images, with its index only."""

    index = pd.DataFrame(
        {
            "image_id": [f"image {i}" for i in range(64)],
            "source": "x",
            "class_id": np.arange(64) * 7 % N_CLASSES,
            "split": "train",
            "repeats": 1,
        }
    )
