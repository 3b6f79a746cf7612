"""How this process was launched: its rank among several processes, and the device it computes on."""

from __future__ import annotations

import importlib.util
import os
import re

from guie.machine import n_cores

TRACKERS = ("tensorboard", "wandb", "mlflow")  # each the name of its package; the first one comes with guie


def check_tracker(name: str) -> None:
    """Raises ValueError, with the command that installs it, if there is no such tracker here."""
    if name not in TRACKERS:
        raise ValueError(f"--tracker {name!r} is no tracker; use {', '.join(TRACKERS)}")
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"--tracker {name} needs the package {name}; run: pip install {name}")


def main_and_count() -> tuple[bool, int]:
    """Whether this is the main process (rank 0), which writes the run's folder, and the number of processes.

    A rank without a number of processes was left in the environment by another program. This process is then alone,
    as in accelerate.

    Raises:
        ValueError: the launcher's variable is not a whole number.
    """
    n = _launcher_variable("WORLD_SIZE", 1)
    return n <= 1 or _launcher_variable("RANK", 0) == 0, max(1, n)


def check_device(name: str) -> None:
    """Raises ValueError if the text names no device. Whether it is here is not asked: that takes torch."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(f"--device {name!r} is no device; use cpu, cuda, cuda:N or auto")


def check_device_is_here(name: str) -> None:
    """Raises ValueError if the text names no device, or a CUDA device that torch does not see. No device is opened."""
    check_device(name)
    if not name.startswith("cuda"):
        return
    import torch  # imported here because it is slow, and needed for CUDA alone

    if not torch.cuda.is_available():
        raise ValueError(f"--device {name}: torch {torch.__version__} sees no CUDA device here; use --device cpu")
    _, _, index = name.partition(":")
    if index and int(index) >= torch.cuda.device_count():
        raise ValueError(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices, numbered from 0")


def choose_device(name: str) -> str:
    """The device called `name`. For `auto` it is the first accelerator, or the CPU where there is none.

    Sets torch's number of threads and its current CUDA device.

    Raises:
        ValueError: there is no such device.
    """
    import torch  # imported here because it is slow, and a door with nothing to do does not need it

    if "OMP_NUM_THREADS" not in os.environ:  # torch counts the machine's cores and ignores a container's CPU quota
        torch.set_num_threads(min(torch.get_num_threads(), n_cores()))
    if name != "auto":
        check_device_is_here(name)
        _, _, index = name.partition(":")
        if index and "LOCAL_RANK" not in os.environ:  # accelerate launch gives each process its own device
            torch.cuda.set_device(int(index))
        return name
    is_for_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")  # accelerate launch --cpu
    return "cuda" if torch.cuda.is_available() and not is_for_cpu else "cpu"


def device_kind(device: str) -> str:
    """cpu or cuda, without the card's number.

    CUDA devices compute in half precision, which changes results more than another card does.
    """
    return device.partition(":")[0]


def _launcher_variable(name: str, default: int) -> int:
    """RANK or WORLD_SIZE as set by torchrun, or the corresponding variable of MPICH, Intel MPI, Open MPI or MVAPICH.

    Raises:
        ValueError: the variable is not a whole number.
    """
    mpi = name.removeprefix("WORLD_")
    names = (name, f"PMI_{mpi}", f"OMPI_COMM_WORLD_{mpi}", f"MV2_COMM_WORLD_{mpi}")
    variable = next((name for name in names if name in os.environ), "")
    if not re.fullmatch(r"\d+", os.environ.get(variable, "0")):
        raise ValueError(f"the environment has {variable}={os.environ[variable]!r}, not a whole number; unset it")
    return int(os.environ.get(variable, default))
