"""A neck that starts as a PCA: scikit-learn's, of features as they are or of length one."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from guie.model.neck import Neck
from guie.recipe import Neck as NeckSettings
from guie.train.pca_start import start_from_pca


class Look:
    """Features of 50 images."""

    labels = np.arange(50) % 5

    def __init__(self) -> None:
        self.rows = torch.randn(50, 12, generator=torch.Generator().manual_seed(3)) * torch.arange(1, 13) + 2

    def features(self, items: np.ndarray) -> torch.Tensor:
        return self.rows[items]

    def embeddings(self, items: np.ndarray) -> torch.Tensor:
        raise AssertionError("a PCA is of features")


@pytest.mark.parametrize("has_unit_input", [False, True])
@pytest.mark.parametrize("is_branched", [False, True])
def test_neck_is_sklearns_pca(has_unit_input: bool, is_branched: bool) -> None:
    settings = NeckSettings(dim=4, dropouts=(0.1, 0.3), is_branched=is_branched, has_unit_input=has_unit_input)
    neck, look = Neck(12, settings), Look()
    start_from_pca(neck, look)
    rows = look.rows.double().numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True) if has_unit_input else rows
    expected = PCA(4).fit_transform(rows)
    with torch.no_grad():
        got = neck.eval()(look.rows).numpy()
    signs = np.sign((got * expected).sum(axis=0))
    assert np.allclose(got, expected * signs, atol=1e-3)
