"""Fixtures of metric learning whose losses are known to six digits: unit vectors and proxies in the plane.

`facts/objectives.md` gives the values of each loss on them, computed by a written-out loop and by
pytorch-metric-learning. F4 and F5 hold equal distances, G5 none.
"""

import math

import torch
from torch import Tensor


def at_degrees(*degrees: float) -> Tensor:
    """Unit vectors at angles, float64 [n, 2]."""
    radians = torch.tensor([math.radians(degree) for degree in degrees], dtype=torch.float64)
    return torch.stack([radians.cos(), radians.sin()], dim=1)


F4 = (at_degrees(0, 60, 90, 180), torch.tensor([0, 0, 1, 1]))
F5 = (at_degrees(0, 60, 270, 90, 180), torch.tensor([0, 0, 0, 1, 1]))
G5 = (at_degrees(0, 50, 115, 170, 260), torch.tensor([0, 0, 1, 1, 0]))
P2 = (torch.eye(2, dtype=torch.float64), torch.tensor([0, 1]))  # two proxies: cosines to them are the coordinates
