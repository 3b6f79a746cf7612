"""The cut: parts and processes give the gradient of the unsplit batch, with dropout and batch norm in the neck."""

import functools
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from accelerate import Accelerator
from opening import FORKS
from torch import Tensor, nn

from guie.embed.accelerator import make_accelerator
from guie.model.neck import Neck
from guie.seeds import seed_of
from guie.settings.neck import Neck as NeckSettings
from guie.settings.objective import ArcFace, ClassMargin
from guie.train.gradient import Position, StepInputs, gradient
from guie.train.model import Model
from guie.train.objectives.base import Batch, Look, Objective
from guie.train.objectives.margin_softmax import MarginSoftmax

N_CLASSES, DIM, WIDTH, N = 5, 6, 8, 64
CARD = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator"),
]
DEVICES = ["cpu", pytest.param("cuda", marks=CARD)]
PATTERNS = 4 * torch.randn(N_CLASSES, 3, 1, 1, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


class PairsWithMemory(Objective):
    """Contrastive over the batch and a memory of earlier embeddings: a loss that no part of a batch can compute
    alone."""

    memory: Tensor
    memory_labels: Tensor
    position: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(96, DIM))
        self.register_buffer("memory_labels", torch.full((96,), -1))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        known = self.memory_labels >= 0
        others = nn.functional.normalize(torch.cat([batch.embeddings, self.memory[known].to(batch.embeddings.dtype)]))
        cosines = nn.functional.normalize(batch.embeddings) @ others.T
        labels = torch.cat([batch.labels, self.memory_labels[known]])
        same = batch.labels[:, None] == labels
        itself = torch.eye(len(batch.labels), len(labels), dtype=torch.bool, device=labels.device)
        pull = ((1 - cosines) * (same & ~itself)).sum() / len(batch.labels)
        push = ((cosines - 0.2).clamp(min=0) * ~same).sum() / len(batch.labels)
        return {"pull": pull, "push": push}

    def after_step(self, batch: Batch, look: Look) -> None:
        slots = (self.position + torch.arange(len(batch.labels), device=batch.labels.device)) % len(self.memory)
        self.memory[slots] = batch.embeddings.to(self.memory.dtype)
        self.memory_labels[slots] = batch.labels
        self.position += len(batch.labels)


def arcface() -> Objective:
    counts = torch.tensor([3, 9, 2, 30, 5])
    return MarginSoftmax(ArcFace(margin_rad=ClassMargin(low=0.1, high=0.4), n_sub_centers=2), N_CLASSES, DIM, counts)


OBJECTIVES: dict[str, Callable[[], Objective]] = {"ArcFace": arcface, "pairs with memory": PairsWithMemory}


class Tower(nn.Module):
    """A backbone with noise of its own."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(rate)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixels)


@functools.cache
def trained(
    kind: str,
    n_parts: int,
    dtype: torch.dtype,
    has_norm: bool = True,
    rate: float = 0.0,
    n_steps: int = 6,
    device: str = "cpu",
) -> dict[str, Tensor]:
    """All weights and buffers after some AdamW steps, which nobody may change; each process sees its images alone."""
    accelerator = make_accelerator(device)
    torch.manual_seed(0)
    neck = Neck(WIDTH, NeckSettings(dim=DIM, dropouts=(0.2,), has_norm=has_norm))
    model = Model(Tower(rate), neck, OBJECTIVES[kind]()).to(accelerator.device, dtype)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    rank, world = accelerator.process_index, accelerator.num_processes
    for step in range(n_steps):
        generator = torch.Generator().manual_seed(step)
        labels = torch.randint(0, N_CLASSES, (N,), generator=generator)
        noise = torch.randn(N, 3, 8, 8, generator=generator, dtype=torch.float64)
        pixels = (noise + PATTERNS[labels]).to(dtype)
        zeros = torch.zeros_like(labels)
        given = StepInputs(
            *(tensor.to(accelerator.device) for tensor in (pixels[rank::world], labels, torch.arange(N), zeros)),
            are_pixels=True,
        )
        optimizer.zero_grad()
        batch, _ = gradient(model.train(), given, n_parts, Position(0, step, 1000 + step), accelerator)
        optimizer.step()
        model.objective.after_step(batch, None)  # type: ignore[arg-type]
    return {name: tensor.cpu().clone() for name, tensor in model.state_dict().items()}


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("has_norm", [False, True])
@pytest.mark.parametrize("n_parts", [4, 32])
@pytest.mark.parametrize("device", DEVICES)
def test_parts_give_the_gradient_of_the_whole(kind: str, has_norm: bool, n_parts: int, device: str) -> None:
    n_steps = 6 if n_parts == 4 else 3
    for dtype, largest in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        whole, parts = (trained(kind, n, dtype, has_norm, n_steps=n_steps, device=device) for n in (1, n_parts))
        assert apart(whole, parts) < largest


def child(rank: int, port: int, folder: str, device: str) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    if device == "cuda" and torch.cuda.device_count() == 1:  # NCCL takes them for two machines, see test_on_a_card.py
        os.environ.update(LOCAL_RANK="0", NCCL_HOSTID=str(rank), NCCL_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    results = {
        (kind, has_norm, n_parts, dtype): trained(kind, n_parts, dtype, has_norm, device=device)
        for kind in OBJECTIVES
        for has_norm in (False, True)
        for n_parts in (1, 4)
        for dtype in (torch.float64, torch.float32)
    }
    torch.save(results, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module", params=DEVICES)
def two_processes(request: pytest.FixtureRequest) -> tuple[str, list[dict]]:
    """The device, and what each of two processes ends with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        method = "spawn" if request.param == "cuda" else FORKS.get_start_method()  # CUDA does not survive a fork
        mp.start_processes(child, args=(port, folder, request.param), nprocs=2, start_method=method)
        return request.param, [torch.load(Path(folder) / f"{rank}.pt") for rank in (0, 1)]


def test_two_processes_train_as_one(two_processes: tuple[str, list[dict]]) -> None:
    device, (first, second) = two_processes
    for (kind, has_norm, n_parts, dtype), weights in first.items():
        one = trained(kind, 1, dtype, has_norm, device=device)
        assert apart(one, weights) < (1e-12 if dtype == torch.float64 else 1e-5), (kind, has_norm, n_parts, dtype)
        assert apart(weights, second[kind, has_norm, n_parts, dtype]) == 0.0  # both have the same bits


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_noise_of_the_backbone_is_the_same_in_both_passes(kind: str) -> None:
    """Dropout within the backbone, four parts: the gradient is that of one graph whose parts have the same seeds."""
    accelerator, place = Accelerator(cpu=True), Position(0, 0, 77)
    torch.manual_seed(3)
    neck = Neck(WIDTH, NeckSettings(dim=DIM, dropouts=(0.2,), has_norm=True))
    model = Model(Tower(0.5), neck, OBJECTIVES[kind]()).double().train()  # type: ignore[arg-type]
    labels = torch.arange(N) % N_CLASSES
    pixels = torch.randn(N, 3, 8, 8, dtype=torch.float64) + PATTERNS[labels]
    zeros = torch.zeros_like(labels)
    gradient(model, StepInputs(pixels, labels, zeros, zeros, True), 4, place, accelerator)
    got = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    parts = []
    for i, part in enumerate(pixels.chunk(4)):
        torch.manual_seed(seed_of(77, "noise", 0, i))
        parts.append(model.backbone(part))
    torch.manual_seed(77)
    features = torch.cat(parts)
    batch = Batch(features, model.neck(features), labels, zeros, zeros, 0, 0)
    sum(model.objective(batch).values()).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, rtol=1e-12, atol=1e-13)
