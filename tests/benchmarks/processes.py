"""A backbone stage on a CPU: one process with a thread for each core, beside a process of one thread for each core.

The images, networks and settings are those of training.py. Door 05 trains two epochs either way, from the same head;
the second epoch's images/s count. One process is the doors' own way. Several are started by `torchrun`, which comes
with torch; they share each batch of 32.

Run on an idle machine, ten minutes:
     python tests/benchmarks/processes.py --data-root ../shared/data > tests/benchmarks/processes.md
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from doors import open_doors
from training import MODELS, PX, STEP_BATCH, curve, write_recipe

from guie.errors import run_to_the_end
from guie.machine import n_cores
from guie.run import DOORS, FOLDERS, PROJECT


def trained(folder: Path, data_root: Path, name: str) -> list[tuple[float, float]]:
    """The second epoch's images/s and the mP@5 after it, of one process and of one for each core."""
    recipe = write_recipe(folder, name, n_epochs=1)
    found = []
    for n in (1, n_cores()):
        out = folder / f"processes{n}"
        options = ["--recipe", str(recipe), "--data-root", str(data_root), "--out", str(out), "--device", "cpu"]
        if n == 1:
            open_doors((1, 2, 3, 4, 5), options, stdout=sys.stderr)
        else:
            for number in (1, 2, 3, 4):
                shutil.copytree(folder / "processes1" / name / FOLDERS[number], out / name / FOLDERS[number])
            command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(n)]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            subprocess.run(
                [*command, str(PROJECT / DOORS[5]), *options], env=environment, stdout=sys.stderr, check=True
            )
        epochs = curve(out / name / "05_backbone/backbone")
        found.append((float(epochs["images_per_s"][-1]), float(epochs["val_mp5"][-1])))
    return found


def main() -> None:
    """Measures each network, and prints the page."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data-root", type=Path, default=PROJECT.parent / "shared/data")
    p.add_argument("--networks", nargs="+", choices=MODELS, default=list(MODELS))
    arguments = p.parse_args()
    n = n_cores()
    print("# One process, or one for each core\n")
    print(f"`python tests/benchmarks/processes.py`: a backbone stage at {PX} px on {n} cores without a GPU, in batches")
    print(f"of {STEP_BATCH}; images/s of the second epoch. One process has {n} threads, the others one each.\n")
    print(f"| network | one process | {n} processes | ratio | mP@5, one | mP@5, {n} |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.networks:
            (one, one_mp5), (more, mp5) = trained(Path(folder), arguments.data_root.resolve(), name)
            cells = [MODELS[name][0], f"{one:.1f}", f"{more:.1f}", f"**{more / one:.2f} x**"]
            print(f"| {' | '.join([*cells, f'{one_mp5:.4f}', f'{mp5:.4f}'])} |", flush=True)


if __name__ == "__main__":
    sys.exit(run_to_the_end(main, "processes.py"))
