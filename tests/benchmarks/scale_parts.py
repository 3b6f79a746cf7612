"""Parts of scale.py that no other benchmark measures. Each runs in a process of its own."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from guie.machine import peak_memory

WIDTH = 192  # numbers of a feature of the shipped ViT
DIM = 64
PACK_PX = 256  # what guie look packs for networks of up to 256 px
SHARD = 2_048  # images of a shard in the made-up list


def took(work: Callable[[], object], n: int, n_bytes: int = 0) -> dict[str, Any]:
    """Runs it; wall and processor seconds, peak memory of the process in GB, and the sizes."""
    began = time.perf_counter()
    used = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return {"s": time.perf_counter() - began, "cpu_s": cpu_s, "gb": peak_memory() / 1e9, "n": n, "n_bytes": n_bytes}


def packed_bytes(n: int, photos: Path) -> dict[str, Any]:
    """Real photos made small, one after the other on one core: their time, and bytes on the disk."""
    from guie.data.shards import as_jpeg, small_image

    paths = sorted(photos.glob("*.jpg"))
    if not paths:
        raise SystemExit(f"error: {photos} holds no .jpg; name a folder of photos with --photos")
    sizes: list[int] = []
    found = took(lambda: sizes.extend(len(as_jpeg(small_image(path, PACK_PX)[0], 95)) for path in paths), len(paths))
    return found | {"n_bytes": sum(sizes)}


def packed_list(n: int, out: Path) -> dict[str, Any]:
    """Opens the list of n packed images, as every door after 03 and `guie look` do."""
    import pandas as pd

    from guie.data.manifest import write_table
    from guie.data.packed import INDEX_COLUMNS, PackedImages

    with tempfile.TemporaryDirectory(dir=out) as name:
        pid = os.fork()  # the making of the list is not counted
        if not pid:
            rows = np.arange(n)
            ids = [f"photos/folder_{i // 100:06d}/photo_{i:08d}.jpg" for i in range(n)]
            values: dict[str, Any] = dict.fromkeys(INDEX_COLUMNS, 1) | {
                "image_id": ids,
                "path": ids,
                "source": "photos",
                "source_label": [f"folder_{i // 100:06d}" for i in range(n)],
                "class_id": rows // 100,
                "domain": "photos",
                "split": "train",
                "group": "",
                "content": [f"{i:032x}" for i in range(n)],
                "shard": [f"{i // SHARD:016x}.tar" for i in range(n)],
                "offset": rows * 16_384,
            }
            write_table(Path(name, "index.parquet"), pd.DataFrame(values)[list(INDEX_COLUMNS)])
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status:
            raise SystemExit(f"error: the list of {n} packed images could not be made (status {status})")
        size = Path(name, "index.parquet").stat().st_size
        return took(lambda: PackedImages(Path(name)), n, size)


def pca(n: int, out: Path) -> dict[str, Any]:
    """The fit of a PCA to features on the disk."""
    from pca import make_features, ours

    with tempfile.TemporaryDirectory(dir=out) as name:
        path = Path(name, "features.npy")
        make_features(path, n, WIDTH)
        features = np.load(path, mmap_mode="r")
        ours(features[: 2 * DIM])  # imports, and the threads of the linear algebra
        return took(lambda: ours(features), n, path.stat().st_size)


def pairs(n: int, out: Path) -> dict[str, Any]:
    """The ten nearest of each of n features among all others, exactly, as in guie look."""
    from guie.own.suspects import neighbours_of

    features = np.random.default_rng(0).standard_normal((n, WIDTH), dtype=np.float32)
    neighbours_of(features[:256])
    return took(lambda: neighbours_of(features), n, features.nbytes)


PARTS: dict[str, Callable[[int, Path], dict[str, Any]]] = {
    "packed_bytes": packed_bytes,
    "packed_list": packed_list,
    "pca": pca,
    "pairs": pairs,
}
