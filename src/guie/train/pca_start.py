"""A neck that starts as the PCA of the training images' features."""

from __future__ import annotations

import numpy as np
import torch

from guie.embed.pca import fit_pca
from guie.model.neck import Neck
from guie.train.objectives.base import Look


class _Inputs:
    """The inputs of a neck's linear layer for all training images without augmentation, read by rows."""

    def __init__(self, neck: Neck, look: Look) -> None:
        self.neck, self.look = neck, look
        self.shape = (len(look.labels), neck.linears[0].in_features)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        features = self.look.features(np.arange(len(self))[rows])
        inputs: np.ndarray = self.neck.unit(features).float().cpu().numpy()
        return inputs


@torch.no_grad()
def start_from_pca(neck: Neck, look: Look) -> None:
    """Sets the neck's linear layers to the PCA of the training images' features: its outputs are the centred
    features along the directions of most variance.

    Args:
        neck: Of one linear layer, or of branches of one; with a bias, without batch norm.
        look: The training set.

    Raises:
        ValueError: there are fewer training images than numbers of an embedding.
    """
    pca = fit_pca([_Inputs(neck, look)], neck.linears[0].out_features)
    for linear in neck.linears:
        linear.weight.copy_(torch.from_numpy(pca.components_))
        linear.bias.copy_(torch.from_numpy(-pca.components_ @ pca.mean_))
