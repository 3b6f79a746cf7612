"""Google Landmarks v2, index and test: `index/<a>/<b>/<c>/<id>.jpg`, `test/...`; their landmark ids are not those of
the training part.

`index_image_to_landmark.csv` (id,landmark_id) names the landmarks of the index (761,757 images).
`retrieval_solution_v2.1.csv` (id,images,Usage) lists for each test image the index images of the same landmark; it may
be absent. A test image without any (`None`) is left out. `index_label_to_category.csv` may be absent, too; it is read
as `train_label_to_category.csv` of the training part.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guie.data.catalogue import DataSet, Download
from guie.data.sources import is_there, read_csv, table_of
from guie.data.sources.gldv2 import S3, groups_of

SET = DataSet(
    title="Google Landmarks v2, index and test",
    page="https://github.com/cvdfoundation/google-landmark",
    licence="CC0 or public domain",
    is_commercial=True,
    folder="gldv2",
    size="120 tars of 1 GB",
    whole=(("index", 761757, 0), ("index and test", 761757 + 117577, 0)),
    files=(
        *(Download(f"{S3}/metadata/{name}.csv") for name in ("index_image_to_landmark", "index_label_to_category")),
        Download(f"{S3}/ground_truth/retrieval_solution_v2.1.csv"),
        *(
            Download(f"{S3}/index/images_{n:03d}.tar", "index", f"{S3}/md5sum/index/md5.images_{n:03d}.txt")
            for n in range(100)
        ),
        *(
            Download(f"{S3}/test/images_{n:03d}.tar", "test", f"{S3}/md5sum/test/md5.images_{n:03d}.txt")
            for n in range(20)
        ),
    ),
)


def build(folder: Path) -> pd.DataFrame:
    """Lists the set at `folder`; a test image has the landmark of the first index image that its solution names.

    Raises:
        FileNotFoundError: no `index_image_to_landmark.csv`.
        ValueError: a list lacks a column.
    """
    index = read_csv(folder / "index_image_to_landmark.csv", "id", "landmark_id")
    rows = [(_place("index", i), label, "test") for i, label in zip(index["id"], index["landmark_id"], strict=True)]
    solution = folder / "retrieval_solution_v2.1.csv"
    if is_there(solution) and (folder / "test").is_dir():
        landmark = dict(zip(index["id"], index["landmark_id"], strict=True))
        tests = read_csv(solution, "id", "images")
        for i, images in zip(tests["id"], tests["images"], strict=True):
            known = [landmark[image] for image in images.split() if image in landmark]
            rows += [(_place("test", i), known[0], "test")] if known else []
    found = table_of(rows)
    return found.assign(group=groups_of(found["path"], found["source_label"], folder / "index_label_to_category.csv"))


def _place(part: str, image_id: str) -> str:
    return f"{part}/{image_id[:1]}/{image_id[1:2]}/{image_id[2:3]}/{image_id}.jpg"
