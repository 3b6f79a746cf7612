"""What an objective sees of the training set: the model in eval mode, which goes on in its own modes."""

import numpy as np
import pytest
import torch
from changing import changed
from small_model import DIM, LABELS, WIDTH, small_model
from torch import Tensor

from guie.settings.optim import Optim
from guie.settings.stage import Stage
from guie.train.batches import _Look
from guie.train.model import Model

STAGE = Stage("s", trains="head", optim=Optim(n_epochs=1, batch_size=8, lr=0.01))
ITEMS = np.array([3, 1, 2])


def model_of(has_size: bool = False) -> Model:
    return small_model(changed(STAGE, neck__dim=DIM, neck__dropouts=(0.5,), neck__has_size=has_size))


def plain(items: np.ndarray, width: int = WIDTH) -> Tensor:
    return torch.from_numpy(items)[:, None] + torch.arange(width, dtype=torch.float32)


def test_embeddings_are_those_of_eval_mode_without_graph():
    model = model_of().train()
    look = _Look(LABELS.numpy(), plain, model)
    found = look.embeddings(ITEMS)
    assert torch.equal(found, look.embeddings(ITEMS)) and not found.requires_grad  # nothing is dropped
    assert model.neck.training and torch.equal(found, model.eval().neck(plain(ITEMS)))


def test_features_are_the_backbones_without_the_images_size():
    model = model_of(has_size=True)
    look = _Look(LABELS.numpy(), lambda items: plain(items, WIDTH + 3), model)
    assert torch.equal(look.features(ITEMS), plain(ITEMS)) and look.embeddings(ITEMS).shape == (3, DIM)


def test_each_module_goes_on_in_its_own_mode():
    model = model_of().train()
    model.backbone.eval()

    def fails(items: np.ndarray) -> Tensor:
        assert not model.neck.training
        raise RuntimeError("no image")

    for look in (_Look(LABELS.numpy(), plain, model), _Look(LABELS.numpy(), fails, model)):
        for see in (look.features, look.embeddings):
            if look.plain is fails:
                with pytest.raises(RuntimeError):
                    see(ITEMS)
            else:
                see(ITEMS)
            assert model.neck.training and not model.backbone.training
