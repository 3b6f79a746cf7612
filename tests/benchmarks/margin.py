"""ArcFace over a million classes, 64-d, batch 256: forward and backward, ours against pytorch-metric-learning's, each
in a process of its own.

Run     python tests/benchmarks/margin.py > tests/benchmarks/margin.md
        python tests/benchmarks/margin.py --device cuda      on an accelerator
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch
from pages import paragraph

from guie.machine import n_cores

DIM, BATCH, SCALE, MARGIN_RAD = 64, 256, 30.0, 0.5
SIZES = (10_000, 100_000, 1_000_000)


def main() -> None:
    """Prints a table in Markdown; with --one, one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--one", nargs=2, metavar=("WHOSE", "CLASSES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(arguments.one[0], int(arguments.one[1]), torch.device(arguments.device))
        return
    on_card = arguments.device == "cuda"
    machine = torch.cuda.get_device_name() if on_card else f"{n_cores()} cores, no GPU"
    print(f"# ArcFace, {DIM}-d, batch {BATCH}, forward and backward\n")
    told = f"""
    `python tests/benchmarks/margin.py{" --device cuda" if on_card else ""}`, {machine}, torch {torch.__version__}.
    Extra memory is the peak above that of the centres and the batch; the gradient of the centres is part of it on both
    sides.
    """
    print(f"{paragraph(told)}\n")
    print(
        "| classes | PML: s | ours: s | ratio | PML: extra GiB | ours: extra GiB | ratio | relative difference of the "
        "norms of the centres' gradients |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for n in SIZES:
        rows = {}
        for name in ("pml", "ours"):
            command = [sys.executable, __file__, "--device", arguments.device, "--one", name, str(n)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows[name] = [float(value) for value in done.stdout.split()]
        (a, b, x), (c, d, y) = rows["pml"], rows["ours"]
        print(
            f"| {n:,} | {a:.3g} | {c:.3g} | {a / c:.1f} | {b:.2f} | {d:.2f} | {b / d:.1f} | {abs(x - y) / abs(x):.0e} "
            "|",
            flush=True,
        )


def measure(name: str, n_classes: int, device: torch.device) -> None:
    """Prints seconds (best of three), extra memory in GiB, and the norm of the centres' gradient."""
    from guie.train.objectives.margin import margin_cross_entropy

    torch.manual_seed(0)
    embeddings, labels = torch.randn(BATCH, DIM).to(device), torch.randint(n_classes, (BATCH,)).to(device)
    if name == "pml":
        from pytorch_metric_learning.losses import ArcFaceLoss

        loss = ArcFaceLoss(num_classes=n_classes, embedding_size=DIM, margin=MARGIN_RAD * 180 / torch.pi, scale=SCALE)
        weight = loss.to(device).W
    else:
        weight = torch.nn.Parameter(torch.empty(n_classes, DIM, device=device))
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for first in range(
            0, n_classes, 10_000
        ):  # in small parts, so that nothing large is freed that could be used again
            part = torch.randn(10_000, DIM, generator=generator)
            if name == "pml":
                weight[:, first : first + 10_000] = part.T
            else:
                weight[first : first + 10_000] = part
    forget_peak(device)
    before, best = peak(device), float("inf")
    for _ in range(3):
        weight.grad = None
        inputs = embeddings.clone().requires_grad_()
        began = now(device)
        if name == "pml":
            loss(inputs, labels).backward()
        else:
            margin_cross_entropy(inputs, weight, labels, MARGIN_RAD, SCALE).backward()
        best = min(best, now(device) - began)
    print(best, peak(device) - before, float(weight.grad.norm()))


def now(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def forget_peak(device: torch.device) -> None:
    """The peak of memory begins again at what is held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peak(device: torch.device) -> float:
    """Largest memory held since the peak was begun anew, in GiB: of the device, or resident (Linux)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


if __name__ == "__main__":
    main()
