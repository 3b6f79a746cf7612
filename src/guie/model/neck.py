"""The neck: the projection from the backbone's feature to the embedding, in the forms that the winners used."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guie.settings.neck import Neck as NeckSettings

N_SIZES = 3


def size_inputs(heights: Tensor, widths: Tensor) -> Tensor:
    """The three numbers that describe an image's size, as inputs of the neck beside the feature: H/W, H/224, W/224.

    Args:
        heights: Pixels, float32 [n].
        widths: Pixels, float32 [n].

    Returns:
        float32 [n, 3].

    Source: 5th place of GUIE, arXiv 2210.09495 and write-up 359161.
    """
    return torch.stack([heights / widths, heights / 224.0, widths / 224.0], dim=1)


def n_sizes(shape: NeckSettings) -> int:
    """Number of inputs for the image's size that a neck of this shape takes beside the feature: 3 or 0."""
    return N_SIZES if shape.has_size else 0


class UnitLength(nn.Module):
    """Divides each row by its length."""

    def forward(self, features: Tensor) -> Tensor:
        """float [n, d] in and out; rows of zeros stay zero."""
        return F.normalize(features, dim=1)


class Neck(nn.Module):
    """Optional L2 normalisation of the feature and batch norm without weights, then the mean of several branches. Each
    branch is a dropout and one or two linear layers.

    GUIE's winners used these forms. 1st and 2nd place: one branch (dropout .2, Linear 64). 5th and 6th: batch norm
    before it. 4th: several dropouts that share one linear layer (multi-sample dropout). 3rd: twenty branches, each with
    its own layer. In eval mode a neck without a hidden layer equals one linear layer, see `folded`.
    """

    def __init__(self, feature_dim: int, shape: NeckSettings) -> None:
        """Makes the layers.

        Args:
            feature_dim: Width of the feature. If `shape.has_size`, the input has three more numbers (`size_inputs`).
            shape: The recipe's neck; `shape.dim` is the width of the embedding.
        """
        super().__init__()
        feature_dim += n_sizes(shape)
        self.unit = UnitLength() if shape.has_unit_input else nn.Identity()
        self.norm = nn.BatchNorm1d(feature_dim, eps=shape.norm_eps, affine=False) if shape.has_norm else nn.Identity()
        self.dropouts = nn.ModuleList(nn.Dropout(rate) for rate in shape.dropouts)
        if not shape.is_branched:
            self.linear = _layers(feature_dim, shape)
        else:
            self.branches = nn.ModuleList(_layers(feature_dim, shape) for _ in shape.dropouts)

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings, not normalised, float [n, dim], of features, float [n, feature_dim (+ 3)]."""
        features = self.norm(self.unit(features))
        # In eval mode nothing is dropped, so all samples of a shared layer are equal.
        if len(self.dropouts) == 1 or not (self.training or hasattr(self, "branches")):
            layer = self.branches[0] if hasattr(self, "branches") else self.linear
            return layer(self.dropouts[0](features))
        layers = self.branches if hasattr(self, "branches") else [self.linear] * len(self.dropouts)
        total = sum(layer(dropout(features)) for layer, dropout in zip(layers, self.dropouts, strict=True))
        assert isinstance(total, Tensor)
        return total / len(self.dropouts)

    def folded(self) -> nn.Module:
        """The neck in eval mode as one `nn.Linear`, after a `UnitLength` if it takes unit features. A neck with a
        hidden layer is returned as it is, in eval mode.

        The norm's statistics and the mean of the branches are merged into the weights in float64. The weights of a neck
        of one layer without norm stay bitwise the same.
        """
        linears = self.linears
        if not linears:
            return self.eval()
        norm = self.norm
        has_bias = isinstance(norm, nn.BatchNorm1d) or linears[0].bias is not None
        weight = torch.stack([layer.weight.detach().double() for layer in linears]).mean(dim=0)
        biases = [layer.bias.detach().double() for layer in linears if layer.bias is not None]
        bias = torch.stack(biases).mean(dim=0) if biases else torch.zeros_like(weight[:, 0])
        if isinstance(norm, nn.BatchNorm1d):
            assert norm.running_mean is not None and norm.running_var is not None
            weight = weight / (norm.running_var.double() + norm.eps).sqrt()
            bias = bias - weight @ norm.running_mean.double()
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=has_bias, device=weight.device)
        with torch.no_grad():
            linear.weight.copy_(weight)
            if has_bias:
                linear.bias.copy_(bias)
        linear = linear.requires_grad_(False).eval()
        return nn.Sequential(self.unit, linear) if isinstance(self.unit, UnitLength) else linear

    @property
    def linears(self) -> list[nn.Linear]:
        """The linear layers of a neck without a hidden layer: one, or one for each branch."""
        layers = list(self.branches) if hasattr(self, "branches") else [self.linear]
        return [layer for layer in layers if isinstance(layer, nn.Linear)]


def _layers(feature_dim: int, shape: NeckSettings) -> nn.Module:
    """One linear layer, or two with a GELU between."""
    last = nn.Linear(shape.hidden_dim or feature_dim, shape.dim, bias=shape.has_bias)
    return nn.Sequential(nn.Linear(feature_dim, shape.hidden_dim), nn.GELU(), last) if shape.hidden_dim else last
