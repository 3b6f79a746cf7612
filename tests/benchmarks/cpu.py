"""Images a second on the CPU: as a plain script has them, and with the settings of guie, side by side in one run.

Each setting runs in its own process, several times in turn. The medians are printed as markdown tables.

Run, about fifteen minutes on a machine with nothing else to do:
     python tests/benchmarks/cpu.py > tests/benchmarks/cpu.md
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from objectives_results import processor

MODELS = {"MobileNetV2": ("mobilenetv2_100", 224), "ViT-Ti/16": ("vit_tiny_patch16_224", 112)}
SETTINGS = {
    "a plain script": "",
    "+ channels last": "channels_last",
    "+ freed memory is kept": "channels_last keep",
    "+ batch norms folded (extraction only)": "channels_last keep fold",
}
ALL = SETTINGS["+ batch norms folded (extraction only)"]
SPIN = "spin 300,000 times (libgomp's default)"
WAITS = {
    "sleep at once": "0",
    "spin 1,000 times": "1000",
    "spin 4,000 times": "4000",
    SPIN: "300000",
}  # to GOMP_SPINCOUNT
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # variables
SECONDS = 5.0  # of a measurement, after one batch to warm up
BATCH = 32


def measure(words: str, name: str) -> tuple[float, float]:
    """Images a second of (extraction, training step), in this process."""
    import torch

    from guie.model.backbone import build_backbone, folded
    from guie.recipe import Model
    from guie.run import keep_freed_memory

    if "keep" in words:
        keep_freed_memory()
    network, px = MODELS[name]
    backbone = build_backbone(Model("timm", network), px)
    layout = torch.channels_last if "channels_last" in words else torch.contiguous_format
    backbone = backbone.to(memory_format=layout)
    pixels = torch.randn(BATCH, 3, px, px).contiguous(memory_format=layout)
    fast = folded(backbone, px) if "fold" in words else backbone.eval()

    def extract() -> None:
        with torch.inference_mode():
            fast(pixels)

    def step() -> None:
        backbone(pixels).square().mean().backward()

    return rate(extract), rate(step)


def rate(work: Callable[[], None]) -> float:
    """Images a second."""
    work()
    n, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        work()
        n += BATCH
    return n / (time.perf_counter() - began)


def in_process(words: str, model: str, spins: str) -> tuple[float, float]:
    """The same in a process of its own; `spins` is its GOMP_SPINCOUNT."""
    command = [sys.executable, __file__, "--one", words or "plain", "--model", model]
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    environment["GOMP_SPINCOUNT"] = spins  # it counts more than the policy that guie.run sets
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    extraction, training = told.split()
    return float(extraction), float(training)


@contextmanager
def busy(n: int) -> Iterator[None]:
    """`n` other processes that compute all the time."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for other in others:
            other.kill()


def medians(rounds: list[tuple[float, float]]) -> tuple[float, float]:
    """Of extraction, and of training steps."""
    extraction, training = (statistics.median(values) for values in zip(*rounds, strict=True))
    return extraction, training


def main() -> None:
    """Prints the tables, or measures one setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--model", default="MobileNetV2", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.one:
        print(*measure(arguments.one, arguments.model))
        return
    import torch

    print(f"# Backbones on the CPU, batches of {BATCH}\n")
    machine = f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"`python tests/benchmarks/cpu.py`: {machine};")
    print(f"images a second, the median of {arguments.rounds} rounds in turn.\n\n## MobileNetV2 at 224 px\n")
    print("Waiting threads spin, as libgomp has it.\n")
    print("| setting | extraction | ratio | training step | ratio |\n|---|---|---|---|---|")
    rounds: dict[str, list[tuple[float, float]]] = {}
    for _ in range(arguments.rounds):
        for name, words in SETTINGS.items():
            rounds.setdefault(name, []).append(in_process(words, "MobileNetV2", WAITS[SPIN]))
    plain = medians(rounds["a plain script"])
    for name, found in rounds.items():
        ratios = [f"{value:.1f} | {value / base:.2f}" for value, base in zip(medians(found), plain, strict=True)]
        print(f"| {name} | {' | '.join(ratios)} |")
    print("\n## Threads that wait\n")
    print("All settings on. *Beside another*: with one other busy process, as loader processes are.")
    for model, (_, px) in MODELS.items():
        print(f"\n### {model} at {px} px\n")
        print("| a waiting thread | extraction, alone | beside another | training step, alone | beside another |")
        print("|---|---|---|---|---|")
        waits: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for _ in range(arguments.rounds):
            for name, spins in WAITS.items():
                for n in (0, 1):
                    with busy(n):
                        waits.setdefault((name, n), []).append(in_process(ALL, model, spins))
        for name in WAITS:
            alone, beside = medians(waits[name, 0]), medians(waits[name, 1])
            print(f"| {name} | {alone[0]:.1f} | {beside[0]:.1f} | {alone[1]:.1f} | {beside[1]:.1f} |")


if __name__ == "__main__":
    main()
