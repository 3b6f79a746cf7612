"""The exported module against an independent eager loop, and what must not be exported."""

import copy
import io
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from guie.embed.ensemble import Tower
from guie.embed.views import normalise, to_square
from guie.export.operators import unknown_to_1_11
from guie.export.plain import write_out
from guie.export.torchscript import build_submission, quiet_jit, trace_network
from guie.model.backbone import build_backbone
from guie.recipe import Model

MEAN, STD = (0.48, 0.45, 0.40), (0.26, 0.25, 0.27)
ODD_SIZES = ((1, 1), (1, 500), (500, 1), (3, 7), (32, 32), (40, 38), (40, 37), (30, 120), (97, 64))


def small_network(dim: int, seed: int) -> nn.Sequential:
    """Sees left and right, colours and position."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 5, 2), nn.GELU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Dropout(0.5), nn.Linear(72, dim)
        ).eval()


def some_images(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, 3, height, width), dtype=np.uint8))


def projection_of(width: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(5)
    return torch.from_numpy(rng.normal(0, 0.05, width)), torch.from_numpy(rng.normal(0, 1, (64, width)))


def two_towers() -> list[Tower]:
    return [
        Tower(small_network(40, 1), 32, ("plain", "flip"), 1.0),
        Tower(small_network(50, 2), 48, ("flip", "crop", "pad", "aspect", "aspect_pad"), 0.5),
    ]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.sqrt((vector**2).sum())


def square_of(image: Tensor, px: int, view: str) -> np.ndarray:
    """The view's square by torchvision: squashed, of the middle nine tenths, or as large as it fits on grey; float64
    [3, px, px]."""
    height, width = image.shape[1:]
    if view in ("aspect", "aspect_pad"):
        if max(height, width) - min(height, width) <= max(height, width) / 20:
            return square_of(image, px, "crop")
        if view == "aspect":
            return square_of(image, px, "plain")
        middle = image[:, height // 20 : height - height // 20, width // 20 : width - width // 20]
        return square_of(middle, px, "pad")
    if view == "pad":
        inner = [max(2, round(side * px / max(height, width) + 1e-9)) for side in (height, width)]
        canvas = np.full((3, px, px), 128.0)
        top, left = (px - inner[0]) // 2, (px - inner[1]) // 2
        canvas[:, top : top + inner[0], left : left + inner[1]] = resize(
            image.float(), inner, InterpolationMode.BICUBIC, antialias=True
        )
        return canvas
    if view == "crop":
        image = image[:, height // 20 : height - height // 20, width // 20 : width - width // 20]
    return resize(image.float(), [px, px], InterpolationMode.BICUBIC, antialias=True).numpy().astype(np.float64)


def oracle(
    towers: list[Tower],
    image: Tensor,
    projection: tuple[Tensor, Tensor] | None,
    is_mean: bool = False,
    power: float = 1.0,
) -> np.ndarray:
    """One image, one tower, one view at a time, in float64 wherever no network computes; torchvision resizes."""
    parts = []
    for tower in towers:
        outputs = []
        for view in tower.views:
            square = square_of(image, tower.image_px, view)
            pixels = (np.clip(square, 0, 255) / 255 - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
            seen = pixels[:, :, ::-1] if view == "flip" else pixels
            with torch.no_grad():
                outputs.append(tower.module(torch.from_numpy(seen.astype(np.float32).copy())[None])[0].double().numpy())
        parts.append(tower.weight * unit(sum(outputs) / len(outputs)))
    joined = unit(sum(parts) / len(parts) if is_mean else np.concatenate(parts))
    joined = unit(np.array([np.sign(x) * np.abs(x) ** power for x in joined]))
    if projection is None:
        return joined
    return unit(projection[1].numpy() @ (joined - projection[0].numpy()))


def saved(module: torch.jit.ScriptModule) -> bytes:
    buffer = io.BytesIO()
    with quiet_jit():
        torch.jit.save(module, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def exported() -> torch.jit.ScriptModule:
    """Two towers with a projection, through a file and back."""
    data = saved(build_submission(two_towers(), MEAN, STD, projection_of(90)))
    with quiet_jit():
        return torch.jit.load(io.BytesIO(data)).eval()


def embedded(module: torch.jit.ScriptModule, images: Tensor) -> Tensor:
    with torch.no_grad():
        return module(images)


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_export_equals_an_eager_loop(exported: torch.jit.ScriptModule, size: tuple[int, int], n: int) -> None:
    images = some_images(n, *size, seed=n)
    got = embedded(exported, images)
    assert got.shape == (n, 64) and got.dtype == torch.float32
    expected = np.stack([oracle(two_towers(), image, projection_of(90)) for image in images])
    np.testing.assert_allclose(got.numpy(), expected, atol=2e-5)


def test_export_without_projection_concatenates() -> None:
    towers = [Tower(small_network(40, 1), 32, ("plain",), 1.0), Tower(small_network(24, 2), 32, ("plain", "flip"), 2.0)]
    image = some_images(1, 21, 50)
    got = embedded(build_submission(towers, MEAN, STD, None), image)[0].numpy()
    np.testing.assert_allclose(got, oracle(towers, image[0], None), atol=1e-5)
    assert np.linalg.norm(got[40:]) / np.linalg.norm(got[:40]) == pytest.approx(2.0, abs=1e-4)  # the weights


@pytest.mark.parametrize(("is_mean", "power"), [(True, 1.0), (False, 0.5), (True, 0.3)])
def test_export_of_a_mean_and_of_powers(tmp_path: Path, is_mean: bool, power: float) -> None:
    towers = [
        Tower(small_network(70, 1), 32, ("plain", "flip"), 1.0),
        Tower(small_network(70, 2), 48, ("aspect",), 2.0),
    ]
    for tower in towers:
        write_out(tower.module)
    projection, image = projection_of(70 if is_mean else 140), some_images(1, 21, 50)
    path = tmp_path / "saved_model.pt"
    path.write_bytes(saved(build_submission(towers, MEAN, STD, projection, is_mean=is_mean, power=power)))
    with quiet_jit():
        got = embedded(torch.jit.load(path), image)[0].numpy()
    np.testing.assert_allclose(got, oracle(towers, image[0], projection, is_mean, power), atol=2e-5)
    assert unknown_to_1_11(path) == []


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "test_convnext"])
def test_export_of_a_timm_network(name: str) -> None:
    options = {"img_size": 64} if name == "test_vit" else {}
    network = timm.create_model(name, num_classes=0, **options).eval()
    tower = Tower(nn.Sequential(network, nn.Linear(network.num_features, 64)).eval(), 64, ("plain", "flip"), 1.0)
    image = some_images(1, 33, 70)
    np.testing.assert_allclose(
        embedded(build_submission([tower], MEAN, STD), image)[0].numpy(), oracle([tower], image[0], None), atol=1e-4
    )


def test_export_of_overlapping_patches_beside_plain_ones() -> None:
    """The same transformer at 48 px and, with patches that overlap, at 44 px."""
    model, head = Model("timm", "test_vit"), nn.Linear(64, 40)
    towers = []
    for px, stride in ((48, 0), (44, 12)):
        backbone = build_backbone(model, px, seed=5, patch_stride=stride)
        towers.append(Tower(nn.Sequential(backbone, head).eval(), px, ("plain", "flip"), 1.0))
    image = some_images(1, 33, 70)
    projection = projection_of(80)
    np.testing.assert_allclose(
        embedded(build_submission(towers, MEAN, STD, projection), image)[0].numpy(),
        oracle(towers, image[0], projection),
        atol=1e-4,
    )


def test_pixels_are_those_of_door_07(exported: torch.jit.ScriptModule) -> None:
    """A tower that returns its pixels: the graph's normalisation is the one that training and door 07 use."""
    tower = Tower(nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()).eval(), 8, ("plain",), 1.0)
    image = some_images(1, 19, 5)
    lift = torch.zeros(64, 3)
    lift[:3] = torch.eye(3)
    got = embedded(build_submission([tower], MEAN, STD, (torch.zeros(3), lift)), image)[0, :3]
    torch.testing.assert_close(
        got, nn.functional.normalize(normalise(to_square(image, 8), MEAN, STD).mean(dim=(2, 3)))[0]
    )


def test_input_that_is_not_contiguous(exported: torch.jit.ScriptModule) -> None:
    """PILToTensor leaves [h, w, 3] memory behind a permuted view."""
    images = some_images(1, 40, 30)
    permuted = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    torch.testing.assert_close(embedded(exported, permuted), embedded(exported, images))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "tolerance"), [((4100, 4100), 1e-3), ((1, 2**24 + 3), 3e-2)])
def test_images_with_more_pixels_than_a_float_counts(
    exported: torch.jit.ScriptModule, size: tuple[int, int], tolerance: float
) -> None:
    """Above 2**24 a float32 skips whole numbers: sizes and offsets must not pass through one.

    The resize adds a million float32 weights for each pixel of the widest image, which is good to half a grey level of
    255.
    """
    value = torch.tensor([200, 30, 90], dtype=torch.uint8).view(1, 3, 1, 1)
    got = embedded(exported, value.expand(1, 3, *size))
    torch.testing.assert_close(got, embedded(exported, value.expand(1, 3, 5, 5)), atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 3, 8, 8),
        some_images(1, 8, 8)[0],
        some_images(1, 8, 8)[:, :1],
        torch.zeros(1, 3, 0, 8, dtype=torch.uint8),
    ],
)
def test_input_of_another_kind_is_refused(exported: torch.jit.ScriptModule, images: Tensor) -> None:
    with pytest.raises(torch.jit.Error, match=r"must be uint8 \[n, 3, height, width\]"):
        embedded(exported, images)


def count(module: torch.jit.ScriptModule, *kinds: str) -> int:
    graph = module.inlined_graph
    return sum(len(graph.findAllNodes(kind)) for kind in kinds)


def test_towers_of_one_network_share_forwards_and_resizes() -> None:
    network, other = small_network(32, 1), small_network(32, 2)
    towers = [
        Tower(network, 32, ("plain",), 1.0),
        Tower(network, 32, ("plain", "flip"), 1.0),
        Tower(other, 32, ("flip",), 1.0),
        Tower(network, 48, ("plain",), 1.0),
    ]
    module = build_submission(towers, MEAN, STD, projection_of(128))
    assert count(module, "aten::_convolution", "aten::conv2d") == 4  # network: plain, flip; other: flip; network at 48
    image = some_images(1, 20, 20)
    np.testing.assert_allclose(
        embedded(module, image)[0].numpy(), oracle(towers, image[0], projection_of(128)), atol=2e-5
    )
    assert len(list(module.resolutions.children())) == 2  # each resizes once


def test_file_holds_a_shared_backbone_once() -> None:
    """By object and by content: the second backbone is a copy, as when a stage's weights are loaded twice."""
    backbone = nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(192, 5000)).eval()  # 3.9 MB
    necks = [nn.Linear(5000, 8).eval() for _ in range(3)]
    one = saved(
        build_submission(
            [Tower(nn.Sequential(backbone, necks[0]).eval(), 32, ("plain",), 1.0)], MEAN, STD, projection_of(8)
        )
    )
    backbones = [backbone, backbone, copy.deepcopy(backbone)]
    towers = [
        Tower(nn.Sequential(b, neck).eval(), 32 + 8 * i, ("plain",), 1.0)
        for i, (b, neck) in enumerate(zip(backbones, necks, strict=True))
    ]
    three = saved(build_submission(towers, MEAN, STD, projection_of(24)))
    assert len(one) > 3.9e6 and len(three) < len(one) + 0.5e6


def test_sharing_leaves_different_weights_apart() -> None:
    first = small_network(64, 1)
    second = copy.deepcopy(first)
    with torch.no_grad():
        second[0].weight[0, 0, 0, 0] += 1.0
    towers = [Tower(first, 32, ("plain",), 1.0), Tower(second, 32, ("plain",), 1.0)]
    image = some_images(1, 32, 32)
    expected = oracle(towers, image[0], projection_of(128))
    np.testing.assert_allclose(
        embedded(build_submission(towers, MEAN, STD, projection_of(128)), image)[0].numpy(), expected, atol=2e-5
    )
    assert not torch.equal(first[0].weight, second[0].weight)


def test_no_device_is_baked_into_the_graph(exported: torch.jit.ScriptModule) -> None:
    graph = exported.inlined_graph  # its nodes live as long as it does
    constants = graph.findAllNodes("prim::Constant")
    assert len(constants) > 20
    assert [node for node in constants if node.output().type().kind() == "DeviceObjType"] == []


@pytest.mark.slow
def test_file_loads_where_there_is_only_torch(tmp_path: Path) -> None:
    path = tmp_path / "saved_model.pt"
    path.write_bytes(saved(build_submission(two_towers(), MEAN, STD, projection_of(90))))
    code = (
        "import sys\n"
        "for name in ('guie', 'torchvision', 'timm', 'open_clip', 'PIL'): sys.modules[name] = None\n"
        "import torch, warnings; warnings.simplefilter('ignore')\n"
        f"with torch.no_grad(): print(tuple(torch.jit.load({str(path)!r}).eval()(torch.zeros(1, 3, 5, 9, "
        "dtype=torch.uint8)).shape))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(1, 64)", done.stderr


def test_building_is_silent_and_other_warnings_pass() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saved(build_submission([Tower(small_network(64, 1), 32, ("plain",), 1.0)], MEAN, STD))
    with pytest.warns(UserWarning, match="something else"), quiet_jit():
        warnings.warn("something else", UserWarning, stacklevel=1)


def test_building_leaves_the_random_state_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    build_submission([Tower(small_network(64, 1), 32, ("plain",), 1.0)], MEAN, STD)
    assert torch.equal(before, torch.random.get_rng_state())


class _FixesBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3)).reshape(int(x.shape[0]), -1)


class _BranchesOnBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3)) * (2.0 if len(x) > 1 else 1.0)


class _Expands(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (
            x.mean(dim=(2, 3))
            + torch.ones(int(x.shape[0]), 3).cumsum(0).view(int(x.shape[0]), 3)[torch.arange(int(x.shape[0]))]
        )


@pytest.mark.parametrize("module", [_FixesBatch(), _BranchesOnBatch(), _Expands()])
def test_trace_that_is_not_the_network_is_refused(module: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"at batch 2"):
        trace_network(module.eval(), 16)


def test_trace_of_a_map_of_features_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[1, 4, 14, 14\].*gives \[1, d\]"):
        trace_network(nn.Conv2d(3, 4, 3).eval(), 16)


def test_towers_that_cannot_be_exported() -> None:
    with pytest.raises(ValueError, match="no towers"):
        build_submission([], MEAN, STD)
    with pytest.raises(ValueError, match="training mode"):
        build_submission([Tower(small_network(64, 1).train(), 32, ("plain",), 1.0)], MEAN, STD)
    with pytest.raises(ValueError, match="upside_down"):
        build_submission([Tower(small_network(64, 1), 32, ("upside_down",), 1.0)], MEAN, STD)
    with pytest.raises(ValueError, match="at least one of plain, flip, crop, pad, aspect, aspect_pad"):
        build_submission([Tower(small_network(64, 1), 32, (), 1.0)], MEAN, STD)


@pytest.mark.parametrize("projection", [None, projection_of(41), (torch.zeros(40), torch.zeros(128, 40))])
def test_widths_that_do_not_give_64_numbers(projection: tuple[Tensor, Tensor] | None) -> None:
    with pytest.raises(ValueError, match=r"the towers give 40 numbers.*pca_dim to 64"):
        build_submission([Tower(small_network(40, 1), 32, ("plain",), 1.0)], MEAN, STD, projection)
