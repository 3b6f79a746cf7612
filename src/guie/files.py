"""Files that are either whole or absent: everything is written in a scratch folder beside the target, then renamed."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import platform
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guie.errors import is_of_the_machine
from guie.settings.model import PICKLED

if TYPE_CHECKING:
    import torch  # at run time only where tensors are: the doors of data_prep/ start without it

SCRATCH = ".tmp"  # the ending of what is not yet written whole


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well, and vanishes when it does not.

    It bears the name of `path`, in a hidden scratch folder beside it (`.NAME.HOST-PID.tmp/`): torch.jit.save repeats
    the name inside the file, and libraries that write through a temporary file of their own (safetensors) leave nothing
    elsewhere when they are killed. The file gets the permissions that the umask asks for, whatever the library gave it.

    Raises:
        OSError: with a line that names the disk, when it is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{glob.escape(path.name)}.*{SCRATCH}"):
        _remove_if_dead(stale)
    scratch = path.with_name(f".{path.name}.{_writer()}{SCRATCH}")
    temporary = scratch / path.name
    try:
        scratch.mkdir(exist_ok=True)
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        _follow_umask(temporary, scratch)
        temporary.replace(path)
    except Exception as error:
        if _is_disk_full(error, path.parent):
            raise OSError(
                errno.ENOSPC, f"the disk is full at {path.parent}; free some space, or choose another place with --out"
            ) from error
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def sweep(folder: Path, is_locked: bool) -> None:
    """Removes what killed processes left half-written below `folder`: a state of a large model is gigabytes.

    Args:
        folder: Where to look, at all depths.
        is_locked: Whether the caller holds the lock of the run, so that nobody else writes there. Otherwise only the
            scratch folders of dead processes of this machine go.
    """
    for path, subfolders, files in os.walk(folder):  # which bears that others remove theirs meanwhile, as glob does not
        for stale in [
            Path(path, name) for name in (*subfolders, *files) if name.startswith(".") and name.endswith(SCRATCH)
        ]:
            if is_locked:
                _remove(stale)
            else:
                _remove_if_dead(stale)


def _writer() -> str:
    """This process, as scratch folders name it: processes of other machines, and of other containers, may have the same
    number."""
    return f"{hashlib.sha256(platform.node().encode()).hexdigest()[:8]}-{os.getpid()}"


def _remove_if_dead(stale: Path) -> None:
    host, _, pid = stale.name.removesuffix(SCRATCH).rpartition(".")[2].partition("-")
    is_of_here = host == _writer().partition("-")[0] and pid.isdigit()
    if is_of_here and not is_alive(int(pid)):
        _remove(stale)


def is_alive(pid: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


def _remove(stale: Path) -> None:
    if stale.is_dir():
        shutil.rmtree(stale, ignore_errors=True)
    else:
        stale.unlink(missing_ok=True)


def _follow_umask(temporary: Path, scratch: Path) -> None:
    """Gives the file the permissions of one that open() makes; those of the folder say what the umask is, which cannot
    be read without setting it."""
    wanted = scratch.stat().st_mode & 0o666
    if temporary.stat().st_mode & 0o777 != wanted:
        with contextlib.suppress(OSError):  # a file system without permissions
            temporary.chmod(wanted)


def _is_disk_full(error: Exception, folder: Path) -> bool:
    """Whether a write failed for want of space; torch and safetensors raise errors of their own, which do not always
    say why."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if "No space left" in str(error) or "Not enough free space" in str(error):  # safetensors, numpy
        return True
    return isinstance(error, RuntimeError | OSError) and shutil.disk_usage(folder).free < 1 << 20  # torch, numpy


@contextlib.contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Lets an error for want of space name the disk; for what is written without `whole_file`.

    Raises:
        OSError: with a line that names the disk, when it is full.
    """
    try:
        yield
    except OSError as error:
        if _is_disk_full(error, folder):
            raise OSError(
                errno.ENOSPC, f"the disk is full at {folder}; free some space, or choose another place with --out"
            ) from error
        raise


def save_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=False) + "\n", encoding="utf-8")


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Writes a training state (tensors, numbers, texts), whole or not at all."""
    import torch

    with whole_file(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path) -> dict[str, Any]:
    """Reads what `save_state` wrote; nothing but tensors, numbers and texts is unpickled.

    Raises:
        ValueError: the file is damaged or is no such state.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not compare the checksums
        if damaged:
            raise OSError(f"{damaged} inside has another checksum than when it was written")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if is_of_the_machine(error):
            raise
        raise ValueError(
            f"{path} cannot be read as a training state ({type(error).__name__}: {error}); delete it to start the "
            "stage anew"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(
            f"{path} holds a {type(state).__name__}, not a training state; delete it to start the stage anew"
        )
    return state


def save_weights(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """Writes tensors as safetensors, whole or not at all."""
    from safetensors.torch import save_file

    with whole_file(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, temporary)


def load_weights(path: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """Reads a safetensors file, or of it the tensors whose names begin with `prefix`, which they lose.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no such file (a pickle named .safetensors, say), or it is truncated.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights {path} do not exist")
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as stored:
            names = [name for name in stored.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name.removeprefix(prefix): stored.get_tensor(name) for name in names}
    except Exception as error:
        if is_of_the_machine(error):
            raise
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); fetch it again. Pickled weights are read as "
            f"{', '.join(PICKLED)}"
        ) from error


def digest_of_file(path: Path) -> str:
    """First 16 hex digits of the file's SHA-256."""
    return _sha256_of_file(path)[:16]


def checked_digest_of_file(path: Path) -> str:
    """As `digest_of_file`, for a file that must be the one that `SHA256SUMS` beside it lists, if it is listed there.

    Raises:
        ValueError: it is another.
    """
    sums, digest = path.with_name("SHA256SUMS"), _sha256_of_file(path)
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []
    listed = [line.split()[0] for line in lines if line.split()[1:] in ([path.name], [f"*{path.name}"])]
    if listed and digest not in listed:
        raise ValueError(
            f"{path} has the SHA-256 {digest[:16]}..., but {sums} lists {listed[0][:16]}...: it is damaged or another "
            "file; fetch it again "
            f"(the project's own: git checkout {path.parent.name}/{path.name}), or correct its line there if you meant "
            "to change it"
        )
    return digest[:16]


def _sha256_of_file(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def digest_of_tensors(weights: dict[str, torch.Tensor]) -> str:
    """First 16 hex digits of the SHA-256 over names, shapes and bytes, in the order of the names."""
    import torch

    sha = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        sha.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return sha.hexdigest()[:16]
