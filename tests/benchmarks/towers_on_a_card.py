"""Images/s of the towers that people take, as a share of the matrix products that the accelerator can compute.

Each row builds its tower with random weights on the card. Images are random pixels that stay in the card's memory, so
loading is not part of these rates. Extraction is the loop body of door 07: pixels are normalised, embedded, and the
features are copied to the CPU; "the library alone" is the same tower as timm or open_clip builds it, under autocast, on
pixels that are not normalised, and its features stay on the card. Both sides take the fastest of the same batch sizes.
Training is the trainer's gradient and optimizer step, with all weights open.

Run, about a minute and a half on an H200, with 44 GB of its memory:
     python tests/benchmarks/towers_on_a_card.py
Every line of it on a CPU, with drawn members of the same families that have two layers:
     python tests/benchmarks/towers_on_a_card.py --device cpu --small
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import open_clip
import timm
import torch
from accelerate import Accelerator
from pages import paragraph
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from guie.embed.accelerator import make_accelerator, precision_of
from guie.embed.extract import FeatureRequest, _Network, precision_on
from guie.embed.views import apply_view, normalise
from guie.machine import n_cores
from guie.model.backbone import build_backbone
from guie.model.normalisation import mean_std
from guie.recipe import ArcFace, Cost, Model, Optim, Stage
from guie.recipes._winners import VIT_H
from guie.recipes.guie_2026 import LANGUAGE
from guie.run import peak_memory_gb
from guie.train.gradient import Position, StepInputs, gradient
from guie.train.model import Model as Trained
from guie.train.model import build_model
from guie.train.parameters import blocks_of, make_optimizer, open_parts

PE_CORE = Model("timm", "vit_pe_core_large_patch14_336", "pretrained:fb")
TOWERS = ((VIT_H, 224), (PE_CORE, 336), (LANGUAGE, 224))
N_CLASSES = 10_000
N_WARM = 3
LEGEND = """
Rates are medians of {n_timed} batches or steps after {n_warm}. FLOPs are those of products, convolutions and attention
in one forward pass of the tower, counted by torch's FlopCounterMode: a multiplication and an addition are two. A
training step counts as three forward passes, also with checkpoints, which compute a fourth. The head's FLOPs are not
counted. Memory is the most that tensors took during the row, its weights included{whose}.
"""


class Bench(NamedTuple):
    """How much is measured; of the batch sizes of extraction, the fastest is told."""

    accelerator: Accelerator
    extraction_batches: tuple[int, ...]
    training_batch: int
    n_timed: int


class Rate(NamedTuple):
    """Median seconds of a batch or step of `batch` images, and the largest memory, 10^9 bytes."""

    batch: int
    seconds: float
    memory_gb: float


def main() -> None:
    """Prints the page, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--small", action="store_true", help="two layers of each tower, and small batches")
    parser.add_argument("--seconds", type=float, default=120, help="after these, no further row begins")
    options = parser.parse_args()
    on_card, ends = options.device == "cuda", time.monotonic() + options.seconds
    accelerator = make_accelerator(options.device, precision_of(options.device))
    bench = Bench(accelerator, *(((1, 2), 2, 2) if options.small else ((64, 128, 256), 64, 8)))
    machine = torch.cuda.get_device_name() if on_card else f"{n_cores()} cores, no GPU"
    command = " ".join([Path(__file__).name, *sys.argv[1:]])
    print(f"# Towers on a card\n\n`python tests/benchmarks/{command}`: {machine},")
    print(f"torch {torch.__version__}, timm {timm.__version__}, open_clip {open_clip.__version__}.\n")
    side, dtype = 256 if options.small else 8192, getattr(torch, precision_on(accelerator.device))
    peak = peak_flops(side, dtype, accelerator.device)
    print(f"The peak is {peak / 1e12:.2f} TFLOP/s: products of two {side} x {side} matrices of {dtype}.", flush=True)
    whose = "" if on_card else "; on a CPU it is the process' largest so far"
    print(f"\n{paragraph(LEGEND.format(n_timed=bench.n_timed, n_warm=N_WARM, whose=whose))}\n")
    print("| tower | px | tokens | GFLOP an image | work | batch | images/s | share of peak | memory, GB |")
    print("|" + "---|" * 9, flush=True)
    for model, px in small_towers() if options.small else TOWERS:
        rows_of(model, px, bench, peak, ends)
    peak = peak_flops(side, dtype, accelerator.device)
    print(f"\nAt the end the same products ran at {peak / 1e12:.2f} TFLOP/s.")


def small_towers() -> Iterator[tuple[Model, int]]:
    """Members of the same three families with two layers, each while its library builds them so, and their sides."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import pytest
    from tower_families import FAMILIES, reduce

    sides = {"ViT-B-32": 224, "vit_pe_core_tiny_patch16_384": 384, "vit_base_patch32_siglip_256": 256}
    for family in FAMILIES:
        if family.name in sides:
            with pytest.MonkeyPatch.context() as patch:
                reduce(family, patch)
                yield Model(family.library, family.name, f"pretrained:{family.tag}"), sides[family.name]


def rows_of(model: Model, px: int, bench: Bench, peak: float, ends: float) -> None:
    """Prints the rows of one tower; after `ends`, by `time.monotonic`, none is begun."""
    flops, tokens = forward_flops(model, px)
    works: dict[str, Callable[[], Rate]] = {
        "extraction": lambda: extraction(model, px, bench),
        "extraction, the library alone": lambda: library_alone(model, px, bench),
        "training": lambda: training(model, px, bench, False),
        "training with checkpoints": lambda: training(model, px, bench, True),
    }
    for work, measure in works.items():
        start = f"| {model.name} | {px} | {tokens} | {flops / 1e9:.1f} | {work}"
        if time.monotonic() > ends:
            print(f"{start} | | no time was left | | |", flush=True)
            continue
        try:
            rate = measure()
        except Exception as error:  # out of memory, or whatever a card's kernels raise: the next row is tried
            told = (str(error).splitlines() or [""])[0].split(". ")[0].replace("|", "/")
            print(f"{start} | | {type(error).__name__}: {told} | | |", flush=True)
        else:
            batch = rate.batch
            share = (3 if "training" in work else 1) * flops * batch / rate.seconds / peak
            print(f"{start} | {batch} | {batch / rate.seconds:,.1f} | {share:.1%} | {rate.memory_gb:.1f} |", flush=True)
        bench.accelerator.free_memory()  # it holds the optimizer, and so the tower


def forward_flops(model: Model, px: int) -> tuple[int, int]:
    """FLOPs of one image through the tower, and the tokens that its first block sees; nothing is computed.

    Attention is counted as its two products: FlopCounterMode has no formula for each fused kernel. Gradients are on,
    since torch's attention layer has a kernel without a formula for inference.
    """
    network = built(model, px, torch.device("meta"))
    tokens: list[int] = []
    first = blocks_of(network)[0]
    first.register_forward_hook(lambda module, given, output: tokens.append(given[0].numel() // given[0].shape[-1]))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network.backbone(torch.zeros(1, 3, px, px, device="meta"))
    return counter.get_total_flops(), tokens[0]


def stage_at(px: int, batch: int, has_checkpoints: bool) -> Stage:
    """A stage that trains backbone and head, with the recipes' neck of 64 numbers, ArcFace and AdamW."""
    optim, cost = Optim(n_epochs=1, batch_size=batch, lr=1e-4), Cost(has_grad_checkpoints=has_checkpoints)
    return Stage("card", trains="all", image_px=px, objective=ArcFace(margin_rad=0.3), optim=optim, cost=cost)


def built(model: Model, px: int, device: torch.device) -> Trained:
    """The tower with random weights, made on the device, and the head of `stage_at`."""
    with device:
        backbone = build_backbone(model, px, has_tag_weights=False)
        counts, labels = torch.ones(N_CLASSES), torch.arange(N_CLASSES)
        return build_model(backbone, stage_at(px, 1, False), counts, labels, seed=0)


def extraction(model: Model, px: int, bench: Bench) -> Rate:
    """Door 07's rate with the best batch size."""
    backbone = built(model, px, bench.accelerator.device).backbone
    request = FeatureRequest("", "", model, px, "plain", "", precision=precision_on(bench.accelerator.device))
    network = _Network.of(backbone, request, bench.accelerator.device)

    def embed(images: Tensor) -> Tensor:
        return network.features(apply_view(normalise(images, *mean_std(model)), request.view))

    return fastest(embed, px, bench, 255)


def library_alone(model: Model, px: int, bench: Bench) -> Rate:
    """The best rate of the tower as its library builds it."""
    with bench.accelerator.device:
        if model.library == "timm":
            network: nn.Module = timm.create_model(model.name, num_classes=0).eval()
        else:
            network = open_clip.create_model(model.name, device=bench.accelerator.device).visual.eval()

    def embed(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
            features: Tensor = network(images)
        return features

    return fastest(embed, px, bench, 1)


def fastest(embed: Callable[[Tensor], Tensor], px: int, bench: Bench, largest: float) -> Rate:
    """The best rate of the batch sizes."""
    rates = [inference(embed, n, px, bench, largest) for n in bench.extraction_batches]
    return min(rates, key=lambda rate: rate.seconds / rate.batch)


def inference(embed: Callable[[Tensor], Tensor], batch: int, px: int, bench: Bench, largest: float) -> Rate:
    """The rate of `embed` for one batch of random pixels, 0..`largest`."""
    images = largest * torch.rand(batch, 3, px, px, device=bench.accelerator.device)
    with torch.inference_mode():
        rate = timed(lambda: embed(images), batch, bench)
        if not bool(embed(images).isfinite().all()):
            raise ValueError("a feature is not finite")
    return rate


def training(model: Model, px: int, bench: Bench, has_checkpoints: bool) -> Rate:
    """The rate of the trainer's step, without its loader."""
    n, device = bench.training_batch, bench.accelerator.device
    stage = stage_at(px, n, has_checkpoints)
    trained = built(model, px, device)
    open_parts(trained, stage)
    trained.set_mode(stage)
    optimizer = bench.accelerator.prepare(make_optimizer(trained, stage))
    pixels = torch.randn(n, 3, px, px, device=device).contiguous(memory_format=torch.channels_last)
    items = torch.arange(n, device=device)
    given = StepInputs(pixels, items, items, torch.zeros_like(items), are_pixels=True)
    place = Position(epoch=0, step=1, seed=1, is_counted=False)  # nine of ten steps of an epoch are not counted

    def step() -> None:
        optimizer.zero_grad()
        _, terms = gradient(trained, given, stage.cost.n_parts, place, bench.accelerator)
        if not all(map(math.isfinite, terms.values())):
            raise ValueError(f"the loss is {terms}")
        optimizer.step()

    return timed(step, n, bench)


def timed(work: Callable[[], object], batch: int, bench: Bench) -> Rate:
    """The median time from the end of one call to the end of the next, and the largest memory."""
    on_card = bench.accelerator.device.type == "cuda"
    if on_card:
        torch.cuda.reset_peak_memory_stats()
    seconds = statistics.median(durations(work, bench.n_timed, bench.accelerator.device))
    return Rate(batch, seconds, torch.cuda.max_memory_allocated() / 1e9 if on_card else peak_memory_gb())


def durations(work: Callable[[], object], n: int, device: torch.device) -> list[float]:
    """Seconds of each of `n` calls after `N_WARM`: by events of the card's stream, or by the clock of a CPU."""
    for _ in range(N_WARM):
        work()
    if device.type != "cuda":
        moments = [time.perf_counter()]
        for _ in range(n):
            work()
            moments.append(time.perf_counter())
        return [end - start for start, end in pairwise(moments)]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(n + 1)]
    events[0].record()
    for event in events[1:]:
        work()
        event.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / 1000 for start, end in pairwise(events)]


def peak_flops(side: int, dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of products of two square matrices of random numbers, the median of 20."""
    left, right = torch.randn(2, side, side, device=device, dtype=dtype)
    return 2 * side**3 / statistics.median(durations(lambda: left @ right, 20, device))


if __name__ == "__main__":
    main()
