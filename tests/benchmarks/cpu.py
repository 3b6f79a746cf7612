"""Images a second of MobileNetV2 on the CPU: as a plain script does it, and with the settings of guie, side by side in
one run.

Each setting runs in its own process, several times in turn. The median is printed as a markdown table.

Run, about five minutes:
     python tests/benchmarks/cpu.py > tests/benchmarks/cpu.md
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time

SETTINGS = {
    "a plain script": "",
    "+ channels last": "channels_last",
    "+ freed memory is kept": "channels_last keep",
    "+ batch norms folded (extraction only)": "channels_last keep fold",
}
BUSY = {"threads spin (default)": {}, "threads sleep (`OMP_WAIT_POLICY=PASSIVE`)": {"OMP_WAIT_POLICY": "PASSIVE"}}


def measure(words: str, px: int, batch: int) -> tuple[float, float]:
    """Images a second of (extraction, training step), in this process."""
    import torch

    from guie.model.backbone import build_backbone, folded
    from guie.recipe import Model
    from guie.run import keep_freed_memory

    if "keep" in words:
        keep_freed_memory()
    backbone = build_backbone(Model("timm", "mobilenetv2_100"), px)
    layout = torch.channels_last if "channels_last" in words else torch.contiguous_format
    backbone = backbone.to(memory_format=layout)
    pixels = torch.randn(batch, 3, px, px).contiguous(memory_format=layout)
    fast = folded(backbone, px) if "fold" in words else backbone.eval()

    def extract() -> None:
        with torch.inference_mode():
            fast(pixels)

    def step() -> None:
        backbone(pixels).square().mean().backward()

    return rate(extract, batch), rate(step, batch)


def rate(work, batch: int, seconds: float = 6.0) -> float:
    work()
    n, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        work()
        n += batch
    return n / (time.perf_counter() - began)


def in_process(words: str, arguments: argparse.Namespace, env: dict[str, str]) -> tuple[float, float]:
    command = [
        sys.executable,
        __file__,
        "--one",
        words or "plain",
        "--px",
        str(arguments.px),
        "--batch",
        str(arguments.batch),
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | env).stdout
    extraction, training = told.split()
    return float(extraction), float(training)


def main() -> None:
    """Prints the tables, or measures one setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--px", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.one:
        print(*measure(arguments.one, arguments.px, arguments.batch))
        return
    import torch

    threads = torch.get_num_threads()
    print(f"# MobileNetV2 on the CPU, {arguments.px} px, batch {arguments.batch}\n")
    print(
        f"`python tests/benchmarks/cpu.py`: {threads} threads, torch {torch.__version__}, {platform.machine()}, median "
        f"of {arguments.rounds} rounds in turn.\n"
    )
    rows = {name: [in_process(words, arguments, {}) for _ in range(1)] for name, words in SETTINGS.items()}
    for _ in range(arguments.rounds - 1):
        for name, words in SETTINGS.items():
            rows[name].append(in_process(words, arguments, {}))
    print("| setting | extraction, images/s | ratio | training step, images/s | ratio |\n|---|---|---|---|---|")
    first = [statistics.median(r[i] for r in rows["a plain script"]) for i in (0, 1)]
    for name, values in rows.items():
        extraction, training = (statistics.median(v[i] for v in values) for i in (0, 1))
        print(
            f"| {name} | {extraction:.1f} | {extraction / first[0]:.2f} | {training:.1f} | {training / first[1]:.2f} |"
        )
    print("\nThe same with one other busy process on the machine, as loader processes are (all other settings on):\n")
    print("| setting | extraction, images/s | training step, images/s |\n|---|---|---|")
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        for name, env in BUSY.items():
            values = [
                in_process(SETTINGS["+ batch norms folded (extraction only)"], arguments, env)
                for _ in range(arguments.rounds)
            ]
            print(
                f"| {name} | {statistics.median(v[0] for v in values):.1f} | "
                f"{statistics.median(v[1] for v in values):.1f} |"
            )
    finally:
        busy.kill()


if __name__ == "__main__":
    main()
