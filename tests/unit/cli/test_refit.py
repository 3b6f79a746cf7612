"""guie refit on a small run: its projection against scikit-learn's on features computed here, and what is told."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA
from small_run import make_small_run, picture, small_recipe

import guie.export.refit as refit_module
from guie.cli.main import main
from guie.cli.refit import Fit, _tell_of_before
from guie.embed import pca as own_pca
from guie.embed.ensemble import Tower, load_tower
from guie.embed.pca import Moments
from guie.embed.projection import Projection
from guie.embed.views import normalise, to_square
from guie.export.refit import OF_PROJECTION, Refittable, has_equal_networks, open_model
from guie.export.submission import load_script, save_module
from guie.export.take_away import Exported, odd_images
from guie.files import digest_of_file
from guie.recipe import Embed, FitImages
from guie.run import Run

N_CLASSES = 40  # of the photos, four of each; none is the run's


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An ensemble at two sizes, in three views, with a PCA to 64."""
    return make_small_run(tmp_path_factory.mktemp("runs") / "small", is_ensemble=True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for class_id in range(100, 100 + N_CLASSES):
        (folder / str(class_id)).mkdir()
        for number in range(4):
            Image.fromarray(picture(class_id, number)).save(folder / f"{class_id}/{number}.png")
    (folder / "100/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def files(photos: Path) -> list[Path]:
    return [path for path in sorted(photos.rglob("*.png")) if path.name != "broken.png"]


def joined_of(run: Run, towers: Sequence[Tower], image: np.ndarray) -> np.ndarray:
    """What the members give of an image, uint8 [h, w, 3], before the projection: float32 [D] of length one."""
    pixels, parts = torch.from_numpy(image).permute(2, 0, 1)[None], []
    mean_std = (run.recipe.model.mean, run.recipe.model.std)
    for member, tower in zip(run.recipe.embed.final.members, towers, strict=True):
        views = []
        for view in member.views:
            frame = "squash" if view in ("plain", "flip") else view
            square = normalise(to_square(pixels, member.image_px, frame), *mean_std)  # type: ignore[arg-type]
            with torch.no_grad():
                views.append(tower.module(square.flip(3) if view == "flip" else square)[0].numpy())
        output = np.mean(views, axis=0)
        parts.append(member.weight * output / np.linalg.norm(output))
    whole = np.concatenate(parts)
    return whole / np.linalg.norm(whole)


@pytest.fixture(scope="module")
def joined(run: Run, photos: Path) -> np.ndarray:
    towers = [load_tower(run, member) for member in run.recipe.embed.final.members]
    return np.stack([joined_of(run, towers, np.asarray(Image.open(path))) for path in files(photos)])


def made(folder: Path, *words: str) -> dict:
    assert main(["refit", *words, "--to", str(folder), "--anyway"]) == 0
    return json.loads((folder / "refit.json").read_text())


def test_projection_is_sklearns_of_the_photos(run: Run, photos: Path, joined: np.ndarray, tmp_path: Path) -> None:
    noted = made(tmp_path / "to", str(run.out), str(photos), "--share", "1")
    pca = PCA(64).fit(joined.astype(np.float64))
    module = load_script(tmp_path / "to/saved_model.pt")
    assert noted["n_photos"] == 4 * N_CLASSES and noted["share"] == 1
    assert np.allclose(module.center.numpy(), pca.mean_, atol=1e-5)
    cosines = np.abs((module.matrix.numpy() * pca.components_).sum(axis=1))
    assert (cosines[:20] > 0.999).all()
    image = np.asarray(Image.open(files(photos)[7]))
    expected = pca.transform(joined[7:8].astype(np.float64))[0]
    with torch.no_grad():
        got = module(torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy()
    signs = np.sign((module.matrix.numpy() * pca.components_).sum(axis=1))
    assert np.allclose(got[:20], (signs * expected / np.linalg.norm(expected))[:20], atol=2e-3)


def test_share_mixes_in_what_the_model_was_fitted_on(
    run: Run, photos: Path, joined: np.ndarray, tmp_path: Path
) -> None:
    made(tmp_path / "to", str(run.out), str(photos), "--share", "0.25")
    before = Moments.load(run.folder(7) / "moments.npz")
    expected = 0.25 * joined.mean(axis=0) + 0.75 * before.mean
    assert np.allclose(load_script(tmp_path / "to/saved_model.pt").center.numpy(), expected, atol=1e-5)
    assert np.abs(before.mean - joined.mean(axis=0)).max() > 1e-3


def test_trial_is_told_by_photos_that_it_did_not_see(
    run: Run, photos: Path, joined: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of the labels are held out: the spectrum that is told is sklearn's fit on the others."""
    trial = made(tmp_path / "to", str(run.out), str(photos), "--share", "1")["trial"]
    assert (trial["n_fitted"], trial["n_held_out"], trial["held_out_by"]) == (80, 80, "label")
    told = capsys.readouterr().out
    assert "spectrum kept" in told and "mP@5" in told and "100/broken.png" in told
    assert all(len(line) <= 80 for line in told.splitlines() if not line.startswith("done"))
    whole = PCA(64).fit(joined.astype(np.float64)).explained_variance_ratio_.sum()
    assert trial["before"]["spectrum"] < whole and trial["after"]["spectrum"] < whole - 0.001
    assert 0 < trial["after"]["neighbours"] <= 1 and 0 < trial["mp5"]["full_width"] <= 1


def test_file_without_its_run_and_photos_without_labels(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in files(photos):
        shutil.copy(path, flat / f"{path.parent.name}_{path.name}")
    shutil.copy(run.folder(8) / "saved_model.pt", tmp_path / "alone.pt")
    noted = made(tmp_path / "to", str(tmp_path / "alone.pt"), str(flat))
    assert noted["run"] is None and noted["share"] == 1 and noted["trial"]["mp5"] is None
    told = capsys.readouterr().out
    assert "the photos count alone" in told and "whitened" not in told
    assert not list((tmp_path / "to").glob(".embeddings*"))


def test_refit_is_exported_with_its_own_projection(run: Run, photos: Path, tmp_path: Path) -> None:
    """ONNX and the hub's folder give the refit's embeddings, not those of the run's own file."""
    made(tmp_path / "to", str(run.out), str(photos), "--share", "1")
    assert main(["export", str(tmp_path / "to"), "--to", str(tmp_path / "out"), "--formats", "onnx,hub"]) == 0
    image = np.asarray(Image.open(files(photos)[3])).transpose(2, 0, 1)[None]
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx")
    (got,) = session.run(None, {"images": image})[0]
    with torch.no_grad():
        refitted, own = (
            load_script(folder / "saved_model.pt")(torch.from_numpy(image))[0].numpy()
            for folder in (tmp_path / "to", run.folder(8))
        )
    assert float(got @ refitted) > 0.9999 > 0.99 > float(got @ own)
    card = " ".join((tmp_path / "out/hub/README.md").read_text().split())
    told = "`guie refit` fitted the last step of this model, the projection to 64 numbers, to"
    assert f"{told} {4 * N_CLASSES} photos without labels" in card


def test_better_trial_is_written_without_being_asked_twice(run: Run, photos: Path, tmp_path: Path) -> None:
    """The same words again fit the same photos again, in the same place."""
    words = ["refit", str(run.out), str(photos), "--to", str(tmp_path / "to"), "--share", "1"]
    assert main(words) == 0
    noted = json.loads((tmp_path / "to/refit.json").read_text())
    trial = noted["trial"]
    assert not trial["is_worse"] and trial["after"]["spectrum"] > trial["before"]["spectrum"]
    assert trial["mp5"]["after"] > trial["mp5"]["before"]
    assert noted["digest_of_model"] == digest_of_file(run.folder(8) / "saved_model.pt")
    assert noted["digest"] == digest_of_file(tmp_path / "to/saved_model.pt") != noted["digest_of_model"]
    assert main(words) == 0


def test_refit_of_a_refit_compares_with_the_run(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The refit was fitted to the photos that tell, so its own projection would look too good. With other photos the
    refit itself is compared."""
    first = made(tmp_path / "first", str(run.out), str(photos), "--share", "1")["trial"]
    assert "before: " not in capsys.readouterr().out
    second = made(tmp_path / "second", str(tmp_path / "first"), str(photos), "--share", "1")["trial"]
    assert "before: the run's own projection" in capsys.readouterr().out
    assert second["before"] == first["before"] and second["after"] == first["after"]
    shutil.copytree(photos, tmp_path / "copies")
    third = made(tmp_path / "other", str(tmp_path / "first"), str(tmp_path / "copies"), "--share", "1")["trial"]
    assert "before: a refit; if it was fitted to these photos" in capsys.readouterr().out
    assert third["before"]["spectrum"] > second["before"]["spectrum"] and third["after"] == second["after"]


def test_worse_trial_writes_nothing(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random directions keep fewer neighbours than the model's own, by the real measure."""
    words = ["refit", str(run.out), str(photos), "--to", str(tmp_path / "to")]
    matrix = np.random.default_rng(0).normal(size=load_script(run.folder(8) / "saved_model.pt").matrix.shape)

    def random(fit: Fit, model: Refittable, joined: np.ndarray) -> Projection:
        return replace(model.projection, matrix=matrix.astype(np.float32) ** 3)

    monkeypatch.setattr(Fit, "projection", random)
    assert main(words) == 2
    assert "no better on the half that it did not see" in capsys.readouterr().err
    assert not (tmp_path / "to/saved_model.pt").exists() and not (tmp_path / "to/refit.json").exists()
    assert main([*words, "--anyway"]) == 0 and (tmp_path / "to/saved_model.pt").exists()


def test_model_itself_and_other_refits_are_never_replaced(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "models/saved_model.pt"
    alone.parent.mkdir()
    shutil.copy(run.folder(8) / "saved_model.pt", alone)
    before = digest_of_file(alone)
    assert main(["refit", str(alone), str(photos), "--to", str(alone.parent), "--anyway"]) == 2
    assert "holds the model itself" in capsys.readouterr().err
    assert main(["refit", str(run.out), str(photos), "--to", str(alone.parent), "--anyway"]) == 2
    assert "holds a saved_model.pt that is no refit" in capsys.readouterr().err
    assert digest_of_file(alone) == before
    made(tmp_path / "to", str(run.out), str(photos))
    first = digest_of_file(tmp_path / "to/saved_model.pt")
    others = tmp_path / "others"
    shutil.copytree(photos, others)
    assert main(["refit", str(run.out), str(others), "--to", str(tmp_path / "to"), "--anyway"]) == 2
    assert "holds a refit of" in capsys.readouterr().err and digest_of_file(tmp_path / "to/saved_model.pt") == first


def test_file_that_fails_its_check_replaces_nothing(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path / "to", str(run.out), str(photos))
    first = [digest_of_file(tmp_path / "to" / name) for name in ("saved_model.pt", "refit.json")]
    monkeypatch.setattr(refit_module, "TOLERANCE", -1.0)
    assert main(["refit", str(run.out), str(photos), "--to", str(tmp_path / "to"), "--anyway"]) == 2
    assert "differs from its projection" in capsys.readouterr().err
    assert [digest_of_file(tmp_path / "to" / name) for name in ("saved_model.pt", "refit.json")] == first


def test_other_projection_of_door_07_is_told(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "runs/small"
    shutil.copytree(run.out, again)
    pca = own_pca.PCA.load(again / "07_embeddings/pca.npz")
    replace(pca, components_=pca.components_[::-1]).save(again / "07_embeddings/pca.npz")
    assert main(["refit", str(again), str(photos), "--to", str(tmp_path / "to")]) == 2
    assert "door 07 ran again since; run door 08 again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--share", "0"], "must be a number above 0"),
        (["--to", "RUN/refit"], "is inside the run"),
        (["--to", "PHOTOS/refit"], "would lie among the photos"),
        (["--device", "gpu"], "--device 'gpu' is no device"),
    ],
)
def test_what_cannot_be_is_told(
    run: Run, photos: Path, tmp_path: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.replace("RUN", str(run.out)).replace("PHOTOS", str(photos)) for word in words]
    try:
        status = main(["refit", str(run.out), str(photos), "--to", str(tmp_path / "to"), *words])
    except SystemExit as error:
        status = int(str(error.code))
    assert status == 2 and told in capsys.readouterr().err.replace("\n", " ")


def test_few_photos_and_model_without_projection_are_told(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few"
    shutil.copytree(photos / "100", few / "100")
    assert main(["refit", str(run.out), str(few), "--to", str(tmp_path / "to")]) == 2
    assert "the number of photos is 5, but a refit with its trial needs 130" in capsys.readouterr().err
    plain = make_small_run(tmp_path / "runs" / "plain")
    assert main(["refit", str(plain.out), str(photos), "--to", str(tmp_path / "to")]) == 2
    assert "does not end in a projection" in capsys.readouterr().err


def test_whitening_that_a_file_without_its_run_loses_is_told(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exponent is not in the file, so the refit has components of length one."""
    module = load_script(run.folder(8) / "saved_model.pt")
    module.matrix.mul_(torch.linspace(1, 3, 64)[:, None])
    save_module(module, tmp_path / "alone.pt")
    made(tmp_path / "to", str(tmp_path / "alone.pt"), str(photos))
    assert "its file does not hold the exponent: the refit is not" in capsys.readouterr().out
    lengths = load_script(tmp_path / "to/saved_model.pt").matrix.norm(dim=1)
    assert torch.allclose(lengths, torch.ones(64), atol=1e-4)


def test_refit_of_a_run_that_was_made_anew_is_told(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run's moments are then of other networks' outputs: to mix them in would be wrong without a word."""
    own = tmp_path / "runs/small"
    shutil.copytree(run.out, own)
    made(tmp_path / "to", str(own), str(photos))
    made(tmp_path / "again", str(tmp_path / "to"), str(photos))  # of the same networks
    words = [str(photos), "--to", str(tmp_path / "other"), "--anyway"]
    fitted = own / "07_embeddings/pca.npz"
    kept, pca = fitted.read_bytes(), own_pca.PCA.load(fitted)
    replace(pca, components_=pca.components_[::-1]).save(fitted)  # door 07 ran again, door 08 did not
    assert main(["refit", str(tmp_path / "to"), *words]) == 2
    assert "door 07 ran again since; run door 08 again" in capsys.readouterr().err
    fitted.write_bytes(kept)
    file = own / "08_export/saved_model.pt"
    module = load_script(file)
    next(iter(module.parameters())).data.mul_(1.01)
    file.unlink()
    save_module(module, file)
    assert main(["refit", str(tmp_path / "to"), *words]) == 2
    assert "has other networks than its run" in capsys.readouterr().err
    shutil.copy(tmp_path / "to/saved_model.pt", tmp_path / "copy.pt")
    assert main(["refit", str(tmp_path / "copy.pt"), *words]) == 0


def test_run_that_exports_another_width_since_is_told(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The refit of 64 numbers cannot be compared with its run of the same networks, which now has 16."""
    own = tmp_path / "runs/small"
    shutil.copytree(run.out, own)
    made(tmp_path / "to", str(own), str(photos))
    shutil.rmtree(own)
    recipe = small_recipe(is_ensemble=True)
    shelf, final = recipe.embed.settings
    make_small_run(own, recipe=replace(recipe, embed=Embed((shelf, replace(final, pca_dim=16)), dim=16)))
    capsys.readouterr()
    assert main(["refit", str(tmp_path / "to"), str(photos), "--to", str(tmp_path / "other"), "--anyway"]) == 2
    told = capsys.readouterr().err
    assert "has 64 numbers, and its run exports 16 since: name the run itself" in told and "Traceback" not in told
    assert not (tmp_path / "other/saved_model.pt").exists()


@pytest.mark.parametrize("other", [{"views": ("flip",)}, {"image_px": 40}], ids=["another view", "another size"])
def test_equal_tensors_that_see_images_otherwise_are_other_networks(
    run: Run, tmp_path: Path, other: dict[str, object]
) -> None:
    """Views and sizes are code of the exported file, not tensors; the projection may be another."""
    recipe = small_recipe(is_ensemble=True)
    shelf, final = recipe.embed.settings
    first, second = final.members
    members = (first, replace(second, **other))  # type: ignore[arg-type]
    changed = make_small_run(
        tmp_path / "runs/other", recipe=replace(recipe, embed=Embed((shelf, replace(final, members=members))))
    )
    one, two = (open_model(each.folder(8) / "saved_model.pt") for each in (run, changed))
    tensors, others = ({**each.opened.state_dict()} for each in (one, two))
    assert len(tensors) > 20 and tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors.keys() - set(OF_PROJECTION))
    assert not np.allclose(one.projection.matrix, two.projection.matrix, atol=1e-3)
    images = list(odd_images().values())
    assert not has_equal_networks(one, two, images)
    assert has_equal_networks(one, replace(one, projection=two.projection), images)


@pytest.mark.parametrize("content", ['{"digest', "[]", "{}"])
def test_damaged_note_of_a_refit_is_told(
    run: Run, photos: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    shutil.copy(run.folder(8) / "saved_model.pt", folder)
    (folder / "refit.json").write_text(content)
    for model, to in ((run.out, folder), (folder, tmp_path / "to")):
        assert main(["refit", str(model), str(photos), "--to", str(to)]) == 2
        assert f"{folder / 'refit.json'} is damaged, or not written by guie refit" in capsys.readouterr().err


def test_list_of_paths_alone(run: Run, photos: Path, tmp_path: Path) -> None:
    lines = ["path", *map(str, files(photos))]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    noted = made(tmp_path / "to", str(run.out), str(tmp_path / "list.csv"))
    assert noted["n_photos"] == 4 * N_CLASSES and noted["trial"]["held_out_by"] == "photo"


def test_projection_that_may_have_seen_the_photos_is_told(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    fitted = replace(run, recipe=replace(run.recipe, embed=replace(run.recipe.embed, fit_on=(FitImages(("drawn",)),))))
    told = []
    of = ((run, 0, False), (run, 9, True), (None, 9, True), (run, 9, False), (fitted, 0, False))
    for own, n_refitted, has_seen in of:
        exported = Exported(Path(), torch.jit.ScriptModule(), own, n_refitted, {}, np.zeros(0), np.zeros(0))
        _tell_of_before(exported, has_seen)
        told.append(capsys.readouterr().out.partition(";")[0].partition(",")[0].strip())
    refitted = "before: a refit"
    assert told == ["", "before: the run's own projection", refitted, refitted, "before: fitted on what fit_on names"]
