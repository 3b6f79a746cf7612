import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from own_photos import COLOURS, draw, labelled
from safetensors.torch import save_file

from guie.embed import extract as extraction
from guie.embed.accelerator import make_accelerator
from guie.own import features as module
from guie.own.features import Features, features_of
from guie.own.photos import read_photos
from guie.own.small import SmallPhotos, make_small
from guie.own.towers import Tower, tower

PX = 160  # its own side, at which its position embeddings are not resized
NAME = "test_vit"  # timm's smallest transformer: 0.4 M parameters


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "own.safetensors"
    save_file(timm.create_model(NAME, num_classes=0).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return make_accelerator("cpu")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return labelled(tmp_path / "photos", n=3)


@pytest.fixture
def network(weights: Path) -> Tower:
    return tower(f"timm:{NAME}={weights}@{PX}")


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of photos that are embedded from now on, one for each time."""
    counts: list[int] = []
    extract = extraction.extract

    def noting(cache, request, backbone, packed, rows, *rest):
        counts.append(len(rows))
        return extract(cache, request, backbone, packed, rows, *rest)

    monkeypatch.setattr(extraction, "extract", noting)
    return counts


def small_of(root: Path) -> SmallPhotos:
    return make_small(read_photos(root), root.parent / "small", 48)


def of(root: Path, network: Tower, accelerator: Accelerator) -> tuple[SmallPhotos, Features]:
    small = small_of(root)
    return small, features_of(network, small, 48, root.parent / "features", accelerator)


def direct(small: SmallPhotos, weights: Path) -> np.ndarray:
    """The same features without any of the project's code but the small photos."""
    from safetensors.torch import load_file

    network = timm.create_model(NAME, num_classes=0).eval()
    network.load_state_dict(load_file(weights))
    config = timm.get_pretrained_cfg(NAME)
    rows = []
    for i in range(len(small.table)):
        pixels = torch.from_numpy(small.images.read(i)).permute(2, 0, 1)[None].float()
        square = F.interpolate(pixels, (PX, PX), mode="bicubic", antialias=True).clamp(0, 255) / 255
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
        with torch.no_grad():
            rows.append(network((square - mean) / std)[0].numpy())
    return np.stack(rows)


def test_features_are_those_of_the_library_in_the_order_of_the_photos(
    root: Path, weights: Path, network: Tower, accelerator: Accelerator
):
    small, features = of(root, network, accelerator)
    np.testing.assert_allclose(features.values, direct(small, weights), atol=2e-4)
    own = timm.create_model(NAME, num_classes=0)
    assert features.n_parameters == sum(p.numel() for p in own.parameters())
    assert features.ms_per_image > 0


def test_only_new_and_changed_photos_are_embedded_later(
    root: Path, weights: Path, network: Tower, accelerator: Accelerator, embedded: list[int]
):
    _, first = of(root, network, accelerator)
    _, again = of(root, network, accelerator)
    assert embedded == [9]
    np.testing.assert_array_equal(again.values, first.values)
    (root / "blue/0.jpg").unlink()
    draw(root / "a new.jpg", COLOURS["red"], 55)
    draw(root / "red/2.jpg", COLOURS["green"], 56)
    small, third = of(root, network, accelerator)
    assert embedded == [9, 2]
    np.testing.assert_allclose(third.values, direct(small, weights), atol=2e-4)
    (root / "a new.jpg").unlink()
    small, fourth = of(root, network, accelerator)
    assert embedded == [9, 2] and len(fourth.values) == 8
    np.testing.assert_allclose(fourth.values, direct(small, weights), atol=2e-4)
    assert (fourth.ms_per_image, fourth.n_parameters) == (third.ms_per_image, third.n_parameters)


def test_another_tower_or_side_has_features_of_its_own(
    root: Path, weights: Path, network: Tower, accelerator: Accelerator, embedded: list[int]
):
    _, first = of(root, network, accelerator)
    _, other = of(root, tower(f"timm:{NAME}={weights}@32"), accelerator)
    assert embedded == [9, 9]
    assert not np.allclose(first.values, other.values)
    _, again = of(root, network, accelerator)
    assert embedded == [9, 9]
    np.testing.assert_array_equal(again.values, first.values)


def test_an_interruption_keeps_what_is_done(
    root: Path, weights: Path, network: Tower, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "BATCH_SIZE", 2)
    monkeypatch.setattr(extraction, "CHECKPOINT_S", -1.0)
    n_images: list[int] = []
    features = extraction._Network.features

    def counting(self: extraction._Network, pixels: torch.Tensor) -> torch.Tensor:
        n_images.append(len(pixels))
        if stops and sum(n_images) > 6:
            raise KeyboardInterrupt
        return features(self, pixels)

    monkeypatch.setattr(extraction._Network, "features", counting)
    stops = True
    with pytest.raises(KeyboardInterrupt):
        of(root, network, accelerator)
    n_images.clear()
    stops = False
    small, whole = of(root, network, accelerator)
    assert sum(n_images) == 3
    np.testing.assert_allclose(whole.values, direct(small, weights), atol=2e-4)
    assert [path.suffix for path in (root.parent / "features").iterdir()] == [".npz"]  # no unfinished parts stay


def test_damaged_features_are_told_and_made_again(
    root: Path, network: Tower, accelerator: Accelerator, embedded: list[int], caplog: pytest.LogCaptureFixture
):
    _, first = of(root, network, accelerator)
    (path,) = (root.parent / "features").glob("*.npz")
    path.write_bytes(path.read_bytes()[: os.path.getsize(path) // 2])
    _, again = of(root, network, accelerator)
    assert embedded == [9, 9] and "these features are computed again" in caplog.text
    np.testing.assert_array_equal(again.values, first.values)


def test_weights_that_do_not_fit_are_one_line(root: Path, weights: Path, accelerator: Accelerator):
    with pytest.raises(ValueError, match="does not fit the backbone") as error:
        of(root, tower(f"timm:test_resnet={weights}@{PX}"), accelerator)
    assert "\n" not in str(error.value)
