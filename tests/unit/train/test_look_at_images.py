"""What an objective sees of the training set: the model in eval mode, which goes on in its own modes."""

import contextlib
import math
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from accelerate import Accelerator
from changing import changed
from small_model import DIM, LABELS, WIDTH, small_model
from torch import Tensor, nn
from torch.utils.data import Dataset

from guie.embed.extract import Squares
from guie.model.embedder import Embedder
from guie.settings.optim import Optim
from guie.settings.stage import Stage
from guie.train.look import ModelLook, image_features
from guie.train.model import Model

STAGE = Stage("s", trains="head", optim=Optim(n_epochs=1, batch_size=8, lr=0.01))
ITEMS = np.array([3, 1, 2])


def model_of(has_size: bool = False) -> Model:
    return small_model(changed(STAGE, neck__dim=DIM, neck__dropouts=(0.5,), neck__has_size=has_size))


def plain(items: np.ndarray, width: int = WIDTH) -> Tensor:
    return torch.from_numpy(items)[:, None] + torch.arange(width, dtype=torch.float32)


def test_embeddings_are_those_of_eval_mode_without_graph():
    model = model_of().train()
    look = ModelLook(LABELS.numpy(), plain, model, {})
    found = look.embeddings(ITEMS)
    assert torch.equal(found, look.embeddings(ITEMS)) and not found.requires_grad  # nothing is dropped
    assert model.neck.training and torch.equal(found, model.eval().neck(plain(ITEMS)))


def test_features_are_the_backbones_without_the_images_size():
    model = model_of(has_size=True)
    look = ModelLook(LABELS.numpy(), lambda items: plain(items, WIDTH + 3), model, {})
    assert torch.equal(look.features(ITEMS), plain(ITEMS)) and look.embeddings(ITEMS).shape == (3, DIM)


def test_each_module_goes_on_in_its_own_mode():
    model = model_of().train()
    model.backbone.eval()

    def fails(items: np.ndarray) -> Tensor:
        assert not model.neck.training
        raise RuntimeError("no image")

    for look in (ModelLook(LABELS.numpy(), plain, model, {}), ModelLook(LABELS.numpy(), fails, model, {})):
        for see in (look.features, look.embeddings):
            if look.plain is fails:
                with pytest.raises(RuntimeError):
                    see(ITEMS)
            else:
                see(ITEMS)
            assert model.neck.training and not model.backbone.training


# --- features of images
# ---------------------------------------------------------------------------------------------------------------------


class Pictures(Dataset[Tensor]):
    """Noise of 8 x 8; the first pixel tells which process read it."""

    image_px = 8

    def __getitem__(self, i: int) -> Tensor:
        picture = 255 * torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(i))
        picture[0, 0, 0] = os.getpid()
        return picture


class Counting(nn.Module):
    """A backbone of one convolution, which does not see the first pixel and notes its passes."""

    feature_dim = 5

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.passes: list[int] = []
        self.readers: set[int] = set()

    def forward(self, pixels: Tensor) -> Tensor:
        self.passes.append(len(pixels))
        self.readers |= set(pixels[:, 0, 0, 0].mul(255).round().int().tolist())
        return self.network(pixels[:, :, 1:])


class One:
    """One of several processes, whose sums are handed over by `reduce`."""

    device = torch.device("cpu")
    autocast = contextlib.nullcontext

    def __init__(self, rank: int = 0, n: int = 1) -> None:
        self.process_index, self.num_processes = rank, n

    def reduce(self, found: Tensor, reduction: str = "sum") -> Tensor:
        assert reduction == "sum"
        return found * self.num_processes if found.ndim == 0 else found  # a number asks whether all are well


def seen(items: np.ndarray, n_at_once: int, accelerator: Any) -> tuple[Tensor, Counting]:
    backbone = Counting()
    model = cast(Embedder, SimpleNamespace(backbone=backbone))
    black_and_white = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    with torch.no_grad():
        found = image_features(cast(Squares, Pictures()), items, model, black_and_white, n_at_once, accelerator)
    return found, backbone


SOME = np.random.default_rng(0).permutation(200)[:47]


def test_features_of_images_are_those_of_each_image_in_passes_that_loader_processes_read() -> None:
    found, backbone = seen(SOME, 10, One())
    assert backbone.passes == [10, 10, 10, 10, 7] and os.getpid() not in backbone.readers
    for item, features in zip(SOME.tolist(), found, strict=True):
        with torch.no_grad():
            own = backbone(Pictures()[item][None] / 255)[0]
        assert torch.allclose(features, own, atol=1e-6)


@pytest.mark.parametrize("n_processes", [2, 3, 4, 8])
def test_processes_share_the_images_and_have_the_bits_of_one(n_processes: int) -> None:
    """Each makes as many passes as the others, which sharded weights need, and few make a pass twice."""
    alone, _ = seen(SOME, 10, One())
    each = [seen(SOME, 10, One(rank, n_processes)) for rank in range(n_processes)]
    assert torch.equal(torch.stack([found for found, _ in each]).sum(dim=0), alone)
    assert {len(backbone.passes) for _, backbone in each} == {math.ceil(5 / n_processes)}


class BesideOneThatFailed(One):
    """The other process could not read one of its images."""

    def reduce(self, found: Tensor, reduction: str = "sum") -> Tensor:
        assert found.ndim == 0  # features must not meet the question of the other process
        return found


def test_an_unreadable_image_of_another_process_ends_this_one_before_features_travel() -> None:
    with pytest.raises(ValueError, match="another process of this run has stopped"):
        seen(SOME, 10, BesideOneThatFailed(0, 2))


def test_a_few_images_are_read_in_this_process() -> None:
    """PADS measures some hundred images every few steps: a pass of them needs no other process."""
    _, backbone = seen(SOME[:6], 10, One())
    assert backbone.passes == [6] and backbone.readers == {os.getpid()}


def test_loading_draws_nothing_from_torchs_generator() -> None:
    state = torch.get_rng_state()
    seen(SOME, 10, One())
    assert torch.equal(torch.get_rng_state(), state)


def in_one_of_two(rank: int, port: int, folder: str) -> None:
    """One of two processes looks at the images."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", **address)
    torch.set_num_threads(1)
    mp.set_start_method("fork", force=True)  # of loaders, as in a process that a door starts
    torch.save(seen(SOME, 10, Accelerator(cpu=True))[0], Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.full
def test_two_real_processes_have_the_bits_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(in_one_of_two, args=(port, str(tmp_path)), nprocs=2)
    alone, _ = seen(SOME, 10, One())
    assert all(torch.equal(alone, torch.load(tmp_path / f"{rank}.pt")) for rank in (0, 1))
