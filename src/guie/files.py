"""Files that are either complete or absent: each is written in a scratch folder beside its target, then renamed.

Also digests of files and tensors.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import platform
import shutil
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guie.errors import is_of_the_machine
from guie.settings.model import PICKLED

if TYPE_CHECKING:
    import torch  # at run time only in functions that need it: the doors of data_prep/ start without torch

SCRATCH = ".tmp"  # the suffix of files and folders that are not yet complete


def refuse_pipe(path: str | Path) -> None:
    """Raises ValueError for a named pipe: to open it would wait for its writer, for ever if there is none. /dev/stdin
    and what a shell gives for `<(command)` are no named pipes."""
    if is_named_pipe(path):
        raise ValueError(f"{path} is a named pipe; name a file")


def is_named_pipe(path: str | Path) -> bool:
    """Whether a path is a pipe in a folder, and not one that is already open."""
    is_open = os.path.abspath(path).startswith(("/dev/fd/", "/dev/stdin", "/proc/"))
    return stat.S_ISFIFO(os.stat(path).st_mode) and not is_open


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path. Its file replaces `path` when the block succeeds, and is removed when the block fails.

    The temporary file has the name of `path`, since torch.jit.save stores the name inside the file. It lies in a hidden
    scratch folder beside `path` (`.NAME.HOST-PID.tmp/`). Libraries that write through a temporary file of their own
    (safetensors) also put it there, so they leave nothing elsewhere when they are killed. The file gets the permissions
    of the umask, whatever the library gave it.

    Raises:
        OSError: the disk is full; the message names the folder.
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


@contextlib.contextmanager
def staged(folder: Path, last: str, option: str = "--out") -> Iterator[Path]:
    """Yields an empty scratch folder inside `folder`. When the block succeeds, its files move to `folder`.

    For several files that belong together. An earlier `last` is removed before the first file moves, and the new one
    moves at the end. So whoever finds `last` finds the other files of the same block. Other files in `folder` stay.

    Args:
        folder: Where the files shall lie; made if it is missing.
        last: The name of the file that the others are read through.
        option: The option that chose the folder, for messages.

    Raises:
        OSError: the disk is full; the message names the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f".*{SCRATCH}"):
        _remove_if_dead(stale)
    scratch = folder / f".{last}.{_writer()}{SCRATCH}"
    try:
        scratch.mkdir()
        yield scratch
        names = sorted(path.name for path in scratch.iterdir() if path.name != last)
        for name in (*names, last):
            with (scratch / name).open("rb+") as handle:
                os.fsync(handle.fileno())
            _follow_umask(scratch / name, scratch)
        (folder / last).unlink(missing_ok=True)
        for name in (*names, last):
            (scratch / name).replace(folder / name)
    except Exception as error:
        if _is_disk_full(error, folder):
            raise OSError(
                errno.ENOSPC, f"the disk is full at {folder}; free some space, or choose another place with {option}"
            ) from error
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def sweep(folder: Path, is_locked: bool) -> None:
    """Removes what killed processes left incomplete below `folder`; the state of a large model takes gigabytes.

    Args:
        folder: Where to look, at all depths.
        is_locked: Whether the caller holds the lock of the run, so that no other process writes there. Otherwise only
            the scratch folders of dead processes of this machine are removed.
    """
    for path, subfolders, files in os.walk(folder):  # unlike glob, it tolerates folders that vanish meanwhile
        for stale in [
            Path(path, name) for name in (*subfolders, *files) if name.startswith(".") and name.endswith(SCRATCH)
        ]:
            if is_locked:
                _remove(stale)
            else:
                _remove_if_dead(stale)


def _writer() -> str:
    """Host and process, for the names of scratch folders.

    The host is needed because processes of other machines and containers may have the same number.
    """
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
    except OSError:  # it belongs to another user
        return True
    return True


def _remove(stale: Path) -> None:
    if stale.is_dir():
        shutil.rmtree(stale, ignore_errors=True)
    else:
        stale.unlink(missing_ok=True)


def _follow_umask(temporary: Path, scratch: Path) -> None:
    """Gives the file the permissions that open() would give it.

    The umask is derived from the scratch folder's permissions, since it cannot be read without setting it.
    """
    wanted = scratch.stat().st_mode & 0o666
    if temporary.stat().st_mode & 0o777 != wanted:
        with contextlib.suppress(OSError):  # a file system without permissions
            temporary.chmod(wanted)


def _is_disk_full(error: Exception, folder: Path) -> bool:
    """Whether a write failed because the disk is full.

    torch and safetensors raise errors of their own, which do not always give the reason.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if "No space left" in str(error) or "Not enough free space" in str(error):  # safetensors, numpy
        return True
    return isinstance(error, RuntimeError | OSError) and shutil.disk_usage(folder).free < 1 << 20  # torch, numpy


@contextlib.contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Adds the folder to the error of a full disk; for files that are written without `whole_file`.

    Raises:
        OSError: the disk is full; the message names the folder.
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
    """Writes `value` as indented JSON, completely or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=False) + "\n", encoding="utf-8")


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Writes a training state (tensors, numbers, strings), completely or not at all."""
    import torch

    with whole_file(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path) -> dict[str, Any]:
    """Reads a file of `save_state`. Only tensors, numbers and strings are unpickled.

    Raises:
        ValueError: the file is damaged, or is not a training state.
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
    """Writes tensors as safetensors, completely or not at all."""
    from safetensors.torch import save_file

    with whole_file(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, temporary)


def load_weights(path: Path, prefix: str = "", only_shapes: bool = False) -> dict[str, torch.Tensor]:
    """Reads the tensors of a safetensors file whose names begin with `prefix`, and removes the prefix from the names.

    With `only_shapes` nothing but the header is read: the tensors lie on the device `meta`, in float32.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not a safetensors file (a pickle named .safetensors, say), or it is truncated.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights {path} do not exist")
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as stored:
            names = [name for name in stored.keys() if name.startswith(prefix)]  # noqa: SIM118
            if only_shapes:
                import torch

                shapes = {name.removeprefix(prefix): stored.get_slice(name).get_shape() for name in names}
                return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
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
    """As `digest_of_file`, and checks the file against its line in `SHA256SUMS` beside it, if there is one.

    Raises:
        ValueError: the line has another digest.
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
    """First 16 hex digits of the SHA-256 over names, shapes, dtypes and bytes, in the order of the names."""
    import torch

    sha = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        sha.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return sha.hexdigest()[:16]
