"""One measurement of what a method costs on a moving backbone, in a process of its own; objectives.py starts it.

Prints a line of JSON: CPU seconds and seconds an epoch, and the largest memory beyond that before the training.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

from objectives_parts import Worlds
from objectives_settings import OBJECTIVES, whole_stage
from objectives_training import trained

from guie.train.train_set import TrainSet

# Divide and Conquer makes its clusters anew every two epochs, so two epochs hold its whole turn.
N_EPOCHS = {128: 2, 1024: 1}


def main() -> None:
    """Trains the case for its epochs."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data-root", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--case", type=json.loads, required=True, help='{"objective": NAME, "batch": N, "n_parts": N}')
    arguments = p.parse_args()
    case = arguments.case
    n_epochs = N_EPOCHS[case["batch"]]
    name = case["objective"]
    stage = whole_stage(name, OBJECTIVES[name], n_epochs, case["batch"], case["n_parts"])
    worlds = Worlds(arguments.data_root, arguments.out)
    world = worlds.vit(0, has_features=False)
    folder = worlds.scratch("costs")
    shutil.rmtree(folder, ignore_errors=True)  # a checkpoint of a start that was broken off would shorten the epoch
    began = time.time()
    found = trained(world, world.packed, stage, folder)
    row = {
        "epoch_s": round(found.epoch_s, 2),
        "memory_mb": round(found.memory_mb, 1),
        "epoch_wall_s": round((time.time() - began) / n_epochs, 2),
        "n_steps": TrainSet(world.run.recipe, stage, world.packed).n_steps,
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
