"""ArcFace over a million classes, 64-d, batch 256: forward and backward, ours against pytorch-metric-learning's, each
in a process of its own.

Run     python tests/benchmarks/margin.py > tests/benchmarks/margin.md
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

DIM, BATCH, SCALE, MARGIN_RAD = 64, 256, 30.0, 0.5
SIZES = (10_000, 100_000, 1_000_000)


def main() -> None:
    """Prints a table in Markdown; with two arguments, one measurement."""
    if len(sys.argv) == 3:
        measure(sys.argv[1], int(sys.argv[2]))
        return
    print(
        f"# ArcFace, {DIM}-d, batch {BATCH}, forward and backward\n\n`python tests/benchmarks/margin.py`, 2 cores, no "
        "GPU. Extra memory is the peak above"
    )
    print("that of the centres and the batch; the gradient of the centres is part of it on both sides.\n")
    print(
        "| classes | PML: s | ours: s | ratio | PML: extra GiB | ours: extra GiB | ratio | relative difference of the "
        "norms of the centres' gradients |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for n in SIZES:
        rows = {}
        for name in ("pml", "ours"):
            done = subprocess.run([sys.executable, __file__, name, str(n)], check=True, capture_output=True, text=True)
            rows[name] = [float(value) for value in done.stdout.split()]
        (a, b, x), (c, d, y) = rows["pml"], rows["ours"]
        print(
            f"| {n:,} | {a:.2f} | {c:.2f} | {a / c:.1f} | {b:.2f} | {d:.2f} | {b / d:.1f} | {abs(x - y) / abs(x):.0e} "
            "|",
            flush=True,
        )


def measure(name: str, n_classes: int) -> None:
    """Prints seconds (best of three), extra memory in GiB, and the norm of the centres' gradient."""
    import torch

    from guie.train.objectives.margin import margin_cross_entropy

    torch.manual_seed(0)
    embeddings, labels = torch.randn(BATCH, DIM), torch.randint(n_classes, (BATCH,))
    if name == "pml":
        from pytorch_metric_learning.losses import ArcFaceLoss

        loss = ArcFaceLoss(num_classes=n_classes, embedding_size=DIM, margin=MARGIN_RAD * 180 / torch.pi, scale=SCALE)
        weight = loss.W
    else:
        weight = torch.nn.Parameter(torch.empty(n_classes, DIM))
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
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again at what is held now
    before, best = peak(), float("inf")
    for _ in range(3):
        weight.grad = None
        inputs = embeddings.clone().requires_grad_()
        began = time.time()
        if name == "pml":
            loss(inputs, labels).backward()
        else:
            margin_cross_entropy(inputs, weight, labels, MARGIN_RAD, SCALE).backward()
        best = min(best, time.time() - began)
    print(best, peak() - before, float(weight.grad.norm()))


def peak() -> float:
    """Largest resident memory since the peak was begun anew, in GiB (Linux)."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


if __name__ == "__main__":
    main()
