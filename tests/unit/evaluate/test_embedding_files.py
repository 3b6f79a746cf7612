"""Embeddings in the formats that people save them in: the same numbers from each, or one line with the remedy."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

from guie.evaluate.__main__ import main
from guie.evaluate.embedding_files import open_embeddings
from guie.evaluate.id_tables import read_ids

DATA = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
IDS = pd.DataFrame({"image_id": [f"{i:03}" for i in range(12)]})


def with_ids(order: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(DATA[order], columns=[f"d{i}" for i in range(5)]).assign(
        image_id=IDS["image_id"].to_numpy()[order]
    )


def exported(order: np.ndarray) -> pd.DataFrame:
    """As guie export writes embeddings.parquet."""
    names = IDS["image_id"].to_numpy()[order]
    table = pd.DataFrame({"id": [f"uuid{i}" for i in order], "path": names, "label": [f"c{i // 4}" for i in order]})
    return table.assign(embedding=list(DATA[order]), int8=list(np.int8(DATA[order])), binary=b"1")


SHUFFLED = np.random.default_rng(1).permutation(12)
WRITERS: dict[str, Callable[[Path], object]] = {
    "a.npy": lambda p: np.save(p, DATA),
    "fortran.npy": lambda p: np.save(p, np.asfortranarray(DATA)),
    "a.npz": lambda p: np.savez(p, DATA),
    "compressed.npz": lambda p: np.savez_compressed(p, embeddings=DATA, labels=np.arange(12)),  # one array of two axes
    "a.pt": lambda p: torch.save(torch.from_numpy(DATA), p),
    "A.PTH": lambda p: torch.save({"embeddings": torch.from_numpy(DATA).requires_grad_(), "epoch": 3}, p),
    "a.safetensors": lambda p: save_file({"embeddings": DATA}, p),
    "a.csv": lambda p: pd.DataFrame(DATA).to_csv(p, index=False),  # its header is 0, 1, 2, 3, 4
    "with_index.csv": lambda p: pd.DataFrame(DATA).to_csv(p),
    "savetxt.csv": lambda p: np.savetxt(p, DATA, delimiter=","),  # without a header
    "a.tsv": lambda p: pd.DataFrame(DATA).add_prefix("d").to_csv(p, index=False, sep="\t"),
    "ids.csv": lambda p: with_ids(SHUFFLED).to_csv(p, index=False),
    "ids.parquet": lambda p: with_ids(SHUFFLED).to_parquet(p),
    "exported.parquet": lambda p: exported(SHUFFLED).to_parquet(p),
    "a.parquet": lambda p: pd.DataFrame(DATA).add_prefix("d").to_parquet(p),
    "labelled.csv": lambda p: (
        with_ids(SHUFFLED).assign(class_id=range(12), domain="x", split="query").to_csv(p, index=False)
    ),  # labels are no dimensions
    "indexed.parquet": lambda p: with_ids(SHUFFLED).set_index("image_id").to_parquet(p),
    "text_index.parquet": lambda p: with_ids(SHUFFLED).set_index("image_id").rename_axis(None).to_parquet(p),
    "text_index.csv": lambda p: (
        with_ids(SHUFFLED).set_index("image_id").rename_axis(None).rename(index="i{}".format).to_csv(p)
    ),
    "number_index.parquet": lambda p: pd.DataFrame(DATA, index=range(12, 0, -1)).add_prefix("d").to_parquet(p),
    "ids.npz": lambda p: np.savez(p, names=IDS["image_id"].to_numpy()[SHUFFLED].astype(str), e=DATA[SHUFFLED]),
    "ids.pt": lambda p: torch.save(
        {"names": IDS["image_id"].to_list()[::-1], "e": torch.from_numpy(DATA[::-1].copy())}, p
    ),
    "labels.pt": lambda p: torch.save((torch.from_numpy(DATA), torch.arange(12)), p),
    "each.pt": lambda p: torch.save({name: torch.from_numpy(DATA[int(name)]) for name in reversed(IDS["image_id"])}, p),
    "lists.parquet": lambda p: pd.DataFrame({"embedding": list(DATA), "image_id": IDS["image_id"]}).to_parquet(p),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_numbers(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    ids = IDS.assign(image_id="i" + IDS["image_id"]) if name == "text_index.csv" else IDS
    (found,) = open_embeddings(tmp_path / name, ids)
    np.testing.assert_allclose(found, DATA, rtol=1e-6)
    assert found.shape == (12, 5)


def test_file_that_guie_export_wrote_holds_its_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported(SHUFFLED).to_parquet(tmp_path / "embeddings.parquet")
    IDS.assign(class_id=np.arange(12) // 4).to_csv(tmp_path / "ids.csv", index=False)
    for ids in ("embeddings.parquet", "ids.csv"):
        assert main([str(tmp_path / "embeddings.parquet"), "--ids", str(tmp_path / ids)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == lines[3:] and lines[2].startswith("| embeddings | 12 |")


def test_columns_that_a_user_added_to_that_file_are_kept(tmp_path: Path) -> None:
    table = exported(SHUFFLED).assign(domain=np.repeat(["x", "y"], 6), split="query")
    table.to_parquet(tmp_path / "more.parquet")
    ids = read_ids(tmp_path / "more.parquet")
    assert ids["domain"].tolist() == ["x"] * 6 + ["y"] * 6 and set(ids["split"]) == {"query"}
    table.assign(image_id=range(12), class_id=7).to_parquet(tmp_path / "own.parquet")
    ids = read_ids(tmp_path / "own.parquet")
    assert ids["image_id"].tolist() == [*map(str, range(12))] and set(ids["class_id"]) == {7}


def test_half_precision_of_torch(tmp_path: Path) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        torch.save(torch.from_numpy(DATA).to(dtype), tmp_path / "a.pt")
        np.testing.assert_allclose(open_embeddings(tmp_path / "a.pt")[0], DATA, rtol=5e-3)


def test_one_of_several_arrays_is_chosen_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", val=DATA, train=DATA + 1)
    with pytest.raises(ValueError, match=r"holds 2 arrays \(val, train\): choose one as .*a.npz:val"):
        open_embeddings(tmp_path / "a.npz")
    np.testing.assert_array_equal(open_embeddings(tmp_path / "a.npz:train")[0], DATA + 1)
    with pytest.raises(ValueError, match="no array 'test'; it has val, train"):
        open_embeddings(tmp_path / "a.npz:test")
    torch.save({"val": torch.from_numpy(DATA), "train": torch.ones(3, 5)}, tmp_path / "a.pt")
    np.testing.assert_array_equal(open_embeddings(tmp_path / "a.pt:val")[0], DATA)


class Model:
    """What people pickle."""


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.pkl", lambda p: p.write_bytes(pickle.dumps(DATA)), "opening a pickle can run any program"),
        ("a.joblib", lambda p: p.write_bytes(pickle.dumps(DATA)), "opening a pickle can run any program"),
        ("model.pt", lambda p: torch.save({"model": Model()}, p), "it holds Python objects"),
        (
            "objects.npy",
            lambda p: np.save(p, np.array([{}, None], dtype=object), allow_pickle=True),
            "cannot be read as .npy",
        ),
        ("a.h5", lambda p: p.write_bytes(b"\x89HDF"), "this format is not read"),
        ("a.xyz", lambda p: p.write_bytes(b"1"), "the ending '.xyz' is not known"),
        ("noending", lambda p: p.write_bytes(b"1"), "the ending '' is not known"),
        ("empty.npy", lambda p: p.write_bytes(b""), "cannot be read as .npy"),
        ("cut.npy", lambda p: (np.save(p, DATA), p.write_bytes(p.read_bytes()[:-8])), "cannot be read as .npy"),
        ("cut.npz", lambda p: (np.savez(p, DATA), p.write_bytes(p.read_bytes()[:-40])), "cannot be read as .npz"),
        (
            "cut.pt",
            lambda p: (torch.save(torch.ones(9, 9), p), p.write_bytes(p.read_bytes()[:-40])),
            "cannot be read as .pt",
        ),
        (
            "cut.safetensors",
            lambda p: (save_file({"a": DATA}, p), p.write_bytes(p.read_bytes()[:-8])),
            "cannot be read as .safetensors",
        ),
        ("no.parquet", lambda p: p.write_bytes(b"PAR1"), "cannot be read as .parquet"),
        (
            "npz.npy",
            lambda p: (np.savez(p.with_suffix(".npz"), DATA), p.with_suffix(".npz").rename(p)),
            "rename it to .npz",
        ),
        ("complex.npy", lambda p: np.save(p, DATA * 1j), "complex numbers"),
        ("texts.npy", lambda p: np.save(p, np.array([["a", "b"]])), "not real numbers"),
        ("flat.npy", lambda p: np.save(p, DATA.ravel()), r"shape \(60,\)"),
        ("maps.npy", lambda p: np.save(p, DATA.reshape(12, 5, 1)), r"shape \(12, 5, 1\)"),
        ("none.npy", lambda p: np.save(p, DATA[:0]), r"shape \(0, 5\), which has no number; save a row for each image"),
        ("epoch.pt", lambda p: torch.save({"epoch": 3}, p), "no tensor"),
        (
            "names.csv",
            lambda p: with_ids(SHUFFLED).assign(label="cup").to_csv(p, index=False),
            r"columns \['label'\] are not numbers",
        ),
        (
            "other.csv",
            lambda p: with_ids(SHUFFLED).assign(image_id=range(12)).to_csv(p, index=False),
            "'000' for one, have no row",
        ),
        (
            "more.csv",
            lambda p: pd.concat([with_ids(SHUFFLED)] * 2).to_csv(p, index=False),
            "image_ids must be those of --ids",
        ),
        (
            "ragged.parquet",
            lambda p: pd.DataFrame({"e": [[1.0], [1.0, 2.0]]}).to_parquet(p),
            "embeddings have one length",
        ),
        (
            "numbers.csv",
            lambda p: with_ids(SHUFFLED).assign(label=range(12)).to_csv(p, index=False),
            r"columns \['label'\] hold integers and the others",
        ),
        ("other.npz", lambda p: np.savez(p, image_id=np.arange(12), e=DATA), "'000' for one, have no row"),
        (
            "ragged.pt",
            lambda p: torch.save({name: torch.ones(3 + (name == "000")) for name in IDS["image_id"]}, p),
            "embeddings have one length",
        ),
        ("wide.csv", lambda p: p.write_text("a,b\n1,2,3\n4,5,6\n"), "more fields than the header"),
    ],
)
def test_what_is_not_read_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, write: Callable[[Path], object], message: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        open_embeddings(tmp_path / name, IDS)
    IDS.assign(class_id=1).to_csv(tmp_path / "ids.csv", index=False)
    assert main([str(tmp_path / name), "--ids", str(tmp_path / "ids.csv")]) == 2
    error = capsys.readouterr().err.strip()
    assert name in error and "\n" not in error and len(error) < 450


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no \.npy file"):
        open_embeddings(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_embeddings(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_full_memory_is_not_told_as_an_unreadable_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    torch.save(torch.zeros(2, 3), tmp_path / "x.pt")

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(type(error)) as caught:
        open_embeddings(tmp_path / "x.pt")
    assert caught.value is error
