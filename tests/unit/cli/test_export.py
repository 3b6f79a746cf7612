"""guie export on a small run: every format against an embedding that is computed here, and what is told of faults."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors
from small_run import PX, make_small_run, picture

from guie.cli.export import parser
from guie.cli.main import main
from guie.data.packed import PackedImages
from guie.data.shards import small_pixels
from guie.export import take_away
from guie.export.hub import HubFolder
from guie.export.torchscript import quiet_jit
from guie.model.backbone import build_backbone
from guie.run import Run

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_small_run(tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of photos, one of which is turned by its EXIF data, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for name, class_id, number in (("a/1.png", 1, 0), ("a/2.png", 1, 1), ("b/1.png", 2, 0)):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(picture(class_id, number)).save(folder / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(picture(2, 1)).copy()).save(folder / "b/2.png", exif=exif)
    (folder / "b/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture(scope="module")
def made(run: Run, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "my model"
    assert main(["export", str(run.out), "--to", str(folder), "--photos", str(photos)]) == 0
    return folder


def expected(run: Run, image: np.ndarray) -> np.ndarray:
    """The embedding of an image, uint8 [h, w, 3]: torch's own resize, timm's network, the neck's product."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    square = F.interpolate(pixels, (PX, PX), mode="bicubic", antialias=True).clamp(0, 255) / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (run.recipe.model.mean, run.recipe.model.std))
    weights = load_file(run.stage_folder("s1_head") / "final.safetensors")
    backbone = build_backbone(run.recipe.model, PX, None, run.recipe.seed).eval()
    with torch.no_grad():
        feature = backbone((square - mean) / std)[0].numpy()
    embedding = weights["neck.linear.weight"] @ feature + weights["neck.linear.bias"]
    return embedding / np.linalg.norm(embedding)


def images() -> list[np.ndarray]:
    rng = np.random.default_rng(9)
    return [
        picture(3, 0),
        picture(4, 1),
        rng.integers(0, 256, (7, 90, 3), dtype=np.uint8),
        np.zeros((1, 1, 3), np.uint8),
    ]


def test_every_format_gives_the_embedding(made: Path, run: Run):
    with quiet_jit():
        script = torch.jit.load(made / "saved_model.pt")
    program = torch.export.load(made / "saved_model.pt2").module()
    session, hub = onnxruntime.InferenceSession(made / "model.onnx"), HubFolder(made / "hub")
    for image in images():
        batch, wanted = np.ascontiguousarray(image.transpose(2, 0, 1)[None]), expected(run, image)
        with torch.no_grad():
            found = [module(torch.from_numpy(batch))[0].numpy() for module in (script, program)]
        found += [session.run(None, {"images": batch})[0][0], hub(batch)[0]]
        for embedding in found:
            np.testing.assert_allclose(embedding, wanted, atol=2e-5)


def test_onnx_takes_any_number_of_images_of_any_size(made: Path):
    model = onnx.load(made / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    (given,), (got,) = model.graph.input, model.graph.output
    sides = [side.dim_param or side.dim_value for side in given.type.tensor_type.shape.dim]
    assert (given.name, sides) == ("images", ["n", 3, "height", "width"]) and got.name == "embeddings"
    assert [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")] == [18]
    session = onnxruntime.InferenceSession(made / "model.onnx")
    several = np.random.default_rng(0).integers(0, 256, (5, 3, 30, 44), dtype=np.uint8)
    single = [session.run(None, {"images": image[None]})[0][0] for image in several]
    np.testing.assert_allclose(session.run(None, {"images": several})[0], single, atol=1e-5)


def test_files_hold_no_path_of_this_machine(made: Path):
    for name in ("model.onnx", "hub/guie_graph.py", "hub/README.md", "hub/config.json"):
        content = (made / name).read_bytes()
        assert str(PROJECT).encode() not in content and b"/site-packages/" not in content, name


def test_hub_folder_needs_nothing_of_ours(made: Path, run: Run):
    """Its source imports torch alone, and fixes no device."""
    source = (made / "hub/guie_graph.py").read_text(encoding="utf-8")
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert sorted(node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports) == [
        "math",
        "torch",
    ]
    names: dict[str, Any] = {}
    exec(source, names)
    tensors = load_tensors(made / "hub/model.safetensors")
    batch = torch.from_numpy(images()[0]).permute(2, 0, 1)[None]
    np.testing.assert_allclose(names["embed"](batch, tensors)[0].detach(), expected(run, images()[0]), atol=2e-5)
    elsewhere = {name: tensor.to("meta") for name, tensor in tensors.items()}
    assert names["embed"](batch.to("meta"), elsewhere).device.type == "meta"
    parameters = {name: tensor.requires_grad_() for name, tensor in tensors.items() if name.startswith("p_")}
    names["embed"](batch, tensors).sum().backward()
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in parameters.values())  # trainable


def test_card_states_scores_licences_and_limits(made: Path, run: Run):
    card = (made / "hub/README.md").read_text(encoding="utf-8")
    head, text = re.match(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL).groups()
    assert "library_name: sentence-transformers" in head and "pipeline_tag: image-feature-extraction" in head
    scores = pd.read_csv(run.folder(7) / "scores.csv").iloc[-1]
    row = f"{scores.mp5:.3f} | {scores.mp5_low:.3f} to {scores.mp5_high:.3f} | {scores.r1:.3f} |"
    assert f"| this model: {scores.setting} | {row}" in text and "| off the shelf |" in text
    assert "| [drawn](https://example.org) | CC0 \\| ours | yes | 48 | 12 |" in text
    assert f"square of {PX} px" in text and "128 commercial" not in text and "{{" not in card
    for code in ("float32 | 256", "int8 | 64", "binary | 8"):
        assert f"| {code} |" in text
    assert "| model.onnx |" in text.replace("model.onnx, ", "")


def test_embeddings_of_photos(made: Path, run: Run, photos: Path):
    table = pd.read_parquet(made / "embeddings.parquet")
    assert table["path"].tolist() == ["a/1.png", "a/2.png", "b/1.png", "b/2.png"]
    assert table["label"].tolist() == ["a", "a", "b", "b"] and table["id"].nunique() == 4
    upright = [picture(1, 0), picture(1, 1), picture(2, 0), picture(2, 1)]
    got = np.stack(table["embedding"])
    np.testing.assert_allclose(got, [expected(run, image) for image in upright], atol=2e-5)
    about = json.loads((made / "embeddings.json").read_text())
    train = np.load(run.folder(7) / "train_embeddings.npy")
    assert about["int8"]["scale"] == pytest.approx(np.abs(train).max() / 127)  # of the run, not of these photos
    np.testing.assert_allclose(np.stack(table["int8"]) * about["int8"]["scale"], got, atol=about["int8"]["scale"])
    bits = np.array([np.unpackbits(np.frombuffer(code, np.uint8)) for code in table["binary"]])
    np.testing.assert_array_equal(bits, got > 0)
    assert about["n_photos"] == 4 and [entry["path"] for entry in about["unread"]] == ["b/broken.png"]


def test_done_mark_tells_what_was_compared(made: Path):
    done = json.loads((made / "export.json").read_text())
    assert [entry["format"] for entry in done["formats"]] == ["torchscript", "program", "onnx", "hub"]
    for entry in done["formats"]:
        assert entry["n_images"] == 10 and 0.9999 <= entry["min_cosine"] <= 1.000001  # 6 of the run, 4 of odd sizes
        assert {name: (made / name).stat().st_size for name in entry["files"]} == entry["files"]
    assert [path.name for path in made.iterdir() if path.name.startswith(".")] == []


def test_file_alone_gives_what_needs_no_run(run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "saved_model.pt"
    shutil.copyfile(run.folder(8) / "saved_model.pt", file)
    to = ["--to", str(tmp_path / "to")]
    assert main(["export", str(file), *to, "--photos", str(photos)]) == 0
    names = ["embeddings.json", "embeddings.parquet", "export.json", "saved_model.pt"]
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == names
    out = capsys.readouterr().out
    assert "4 photos" in out and "file not taken:\n    b/broken.png: " in out
    assert main(["export", str(file), *to, "--formats", "onnx,hub"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: a run's weights are needed for onnx, hub, and ") and error.count("\n") == 1


def test_file_of_a_run_brings_it_from_inside_its_folder(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(run.folder(8))
    exported = take_away.read_exported(Path("saved_model.pt"))
    assert exported.run is not None and exported.run.out == run.out
    assert exported.path == run.folder(8) / "saved_model.pt"


def test_embeddings_that_were_interrupted_go_on(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from guie.export import parts

    monkeypatch.setattr(parts, "N_PART", 2)
    words = ["export", str(run.out), "--to", str(tmp_path / "to"), "--formats", "embeddings", "--photos", str(photos)]
    seen: list[str] = []
    read = parts.read_image

    def counted(file: Path) -> np.ndarray:
        seen.append(file.name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return read(file)

    monkeypatch.setattr(parts, "n_cores", lambda: 1)
    monkeypatch.setattr(parts, "AHEAD", 1)
    monkeypatch.setattr(parts, "read_image", counted)
    assert main(words) == 130
    assert not (tmp_path / "to/embeddings.parquet").exists() and not (tmp_path / "to/export.json").exists()
    assert main(words) == 0
    assert len(seen) == 3 + 3  # the first two of five were not read again
    assert len(pd.read_parquet(tmp_path / "to/embeddings.parquet")) == 4 and not (tmp_path / "to/.embeddings").exists()
    changed = photos / "a/1.png"
    os.utime(changed, ns=(1, changed.stat().st_mtime_ns))  # reading a photo changes nothing
    assert len(pd.read_parquet(tmp_path / "to/embeddings.parquet")) == 4


@pytest.mark.parametrize("format", ["torchscript", "hub"])
def test_file_that_disagrees_is_not_written(
    made: Path,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    format: str,
):
    """An earlier export stays as it was."""
    folder = tmp_path / "to"
    shutil.copytree(made, folder)
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    embedded = take_away._embedded
    calls: list[int] = []

    def turned(embed: take_away.Embedder, given: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        embeddings, seconds = embedded(embed, given)
        calls.append(1)
        return (np.roll(embeddings, 1, axis=1) if len(calls) == 2 else embeddings), seconds

    monkeypatch.setattr(take_away, "_embedded", turned)
    monkeypatch.setattr(take_away, "_program", lambda *_: torch.export.load(made / "saved_model.pt2"))
    assert main(["export", str(run.out), "--to", str(folder), "--formats", format]) == 2
    told = capsys.readouterr().err
    assert re.match(
        rf"error: {format} disagrees with .*: cosine -?0\.\d+ on image (\S+\.png|\d+x\d+), must be 0.9999", told
    )
    del before[folder / "export.json"]
    assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == before


def test_killed_while_files_move_leaves_a_whole_folder(made: Path, tmp_path: Path):
    """Killed after the first of the hub's files has moved: without modules.json nothing loads half of two exports."""
    folder = tmp_path / "to"
    shutil.copytree(made / "hub", folder)
    code = """
import os, pathlib, signal, sys
from guie.files import staged
replace = pathlib.Path.replace
def once(self, target):
    replace(self, target)
    os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.replace = once
with staged(pathlib.Path(sys.argv[1]), "modules.json") as scratch:
    for name in ("config.json", "model.safetensors", "modules.json"):
        (scratch / name).write_text("new")
"""
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (folder / "config.json").read_text() == "new" and not (folder / "modules.json").exists()
    from guie.files import staged

    with staged(folder, "modules.json") as scratch:
        (scratch / "modules.json").write_text("whole")
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []  # the dead one's, too
    assert (folder / "modules.json").read_text() == "whole"


def test_faults_are_told_in_one_line(run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def told(*words: str) -> str:
        assert main(["export", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1, error
        return error

    to = ("--to", str(tmp_path / "to"))
    assert "is no run: it has no recipe.json" in told(str(photos), *to)
    assert "does not exist; name a run's folder" in told(str(tmp_path / "none.pt"), *to)
    (tmp_path / "text.pt").write_text("no model")
    assert "text.pt is no whole file of door 08" in told(str(tmp_path / "text.pt"), *to)
    whole = (run.folder(8) / "saved_model.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    half = told(str(tmp_path / "half.pt"), *to)
    assert "half.pt is no whole file of door 08" in half and "central directory); export it again" in half
    with quiet_jit():
        torch.jit.script(torch.nn.Identity()).save(tmp_path / "other.pt")
    assert "other.pt gives [1, 3, 2, 2] for an image" in told(str(tmp_path / "other.pt"), *to)
    assert "--to" in told(str(run.out), "--to", str(run.out / "08_export"))
    (tmp_path / "shop/photos").mkdir(parents=True)
    assert "would lie among the photos" in told(str(run.out), "--to", str(photos / "new"), "--photos", str(photos))
    above = ["--to", str(tmp_path / "shop"), "--photos", str(tmp_path / "shop/photos")]
    assert "where the results would go; choose another place with --to" in told(str(run.out), *above)
    assert "give --photos FOLDER" in told(str(run.out), *to, "--formats", "embeddings")
    assert "give --photos FOLDER" in told(str(run.out), *to, "--formats", "onnx", "--photos", str(photos))
    assert "does not exist" in told(str(run.out), *to, "--formats", "embeddings", "--photos", str(tmp_path / "none"))
    (tmp_path / "file").write_text("")
    assert "cannot be written" in told(str(run.out), "--to", str(tmp_path / "file"))
    assert not (tmp_path / "to/export.json").exists()


def test_run_without_door_08_names_it(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copyfile(run.out / "recipe.json", bare / "recipe.json")
    assert main(["export", str(bare), "--to", str(tmp_path / "to")]) == 2
    assert "run door 08: python src/08_export_torchscript.py --recipe small" in capsys.readouterr().err


def test_unknown_format_is_told_with_those_that_there_are(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parser().parse_args(["x", "--to", "y", "--formats", "onnx,pdf"])
    assert "formats are torchscript, program, onnx, hub, embeddings" in " ".join(capsys.readouterr().err.split())


@pytest.fixture
def blocks(made: Path, tmp_path: Path) -> list[str]:
    """The code of README's section "Use the model", in whose place `tmp_path` holds a model and photos."""
    section = (PROJECT / "README.md").read_text(encoding="utf-8").split("\n## Use the model\n")[1].split("\n## ")[0]
    found = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert len(found) == 3 and all(len([line for line in block.splitlines() if line]) <= 7 for block in found)
    (tmp_path / "my_model").symlink_to(made)
    for name, class_id in (("photo.jpg", 5), ("another.jpg", 6)):
        Image.fromarray(picture(class_id, 0)).save(tmp_path / name)
    return found


def test_torch_and_onnxruntime_as_readme_says(
    blocks: list[str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    wanted = expected(run, np.array(Image.open("photo.jpg")))
    for block in blocks[:2]:
        names: dict[str, Any] = {}
        with quiet_jit():
            exec(block, names)
        np.testing.assert_allclose(names["embedding"], wanted, atol=2e-5)


def test_transparent_photos_are_laid_on_white_as_the_search_does(
    blocks: list[str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A cut-out product: its hidden pixels are noise, which convert("RGB") would show."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 4), dtype=np.uint8)
    pixels[:20, :, 3] = 0
    pixels[20:, :25, 3] = 128
    pixels[20:, 25:, 3] = 255
    Image.fromarray(pixels).save("photo.jpg", format="PNG")
    seen = small_pixels(Path("photo.jpg").read_bytes(), 0)[0]
    share = pixels[..., 3:] / 255
    np.testing.assert_allclose(seen, pixels[..., :3] * share + 255 * (1 - share), atol=1)
    for block in blocks[:2]:
        names: dict[str, Any] = {}
        with quiet_jit():
            exec(block, names)
        np.testing.assert_array_equal(np.asarray(names["image"]), seen)


@pytest.mark.full
def test_sentence_transformers_as_readme_says(blocks: list[str], made: Path, run: Run, photos: Path, tmp_path: Path):
    """It runs in a separate process, because the library reads the place of its cache when it is imported."""
    code = """
import json, sys
import numpy as np
from PIL import Image
turned = sys.argv[1]
mixed = model.encode(["photo.jpg", Image.open(turned), np.array(Image.open("photo.jpg")), {"image": turned}])
model.save_pretrained("again")
again = SentenceTransformer("again", trust_remote_code=True).encode("photo.jpg")
dim = model.get_embedding_dimension()
print(json.dumps([embedding.tolist(), embeddings.tolist(), mixed.tolist(), again.tolist(), dim]))
"""
    environment = os.environ | {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, "-c", blocks[2] + code, str(photos / "b/2.png")]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    one, two, mixed, again, dim = json.loads(done.stdout.splitlines()[-1])
    jpgs = [expected(run, np.array(Image.open(tmp_path / name))) for name in ("photo.jpg", "another.jpg")]
    np.testing.assert_allclose(one, jpgs[0], atol=2e-5)
    np.testing.assert_allclose(two, jpgs, atol=2e-5)
    upright = expected(run, picture(2, 1))
    np.testing.assert_allclose(mixed, [jpgs[0], upright, jpgs[0], upright], atol=2e-5)
    np.testing.assert_allclose(again, one, atol=1e-6)
    assert dim == 64


@pytest.mark.full
def test_ensemble_with_projection_is_that_of_door_07(tmp_path: Path):
    """Two sizes of one backbone, three views and a PCA, against the embeddings that door 07 computed with numpy."""
    run = make_small_run(tmp_path / "small", is_ensemble=True)
    assert main(["export", str(run.out), "--to", str(tmp_path / "to")]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "to/model.onnx")
    hub = HubFolder(tmp_path / "to/hub")
    stored = np.load(run.folder(7) / "val_embeddings.npy")
    packed = PackedImages(run.folder(3))
    rows = pd.read_parquet(run.folder(7) / "val_ids.parquet")["pack_row"]
    for row, embedding in list(zip(rows, stored, strict=True))[::9]:
        batch = np.ascontiguousarray(packed.read(int(row)).transpose(2, 0, 1)[None])
        np.testing.assert_allclose(session.run(None, {"images": batch})[0][0], embedding, atol=1e-4)
        np.testing.assert_allclose(hub(batch)[0], embedding, atol=1e-4)
    backbone = (run.stage_folder("s1_head") / "final.safetensors").stat().st_size
    for name in ("hub/model.safetensors", "model.onnx"):
        assert (tmp_path / "to" / name).stat().st_size < 1.3 * backbone  # both sizes share its weights
