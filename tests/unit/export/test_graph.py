"""Programs of torch.export as source and as ONNX, on modules of a few operators."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from guie.export import onnx_file
from guie.export.graph import as_source
from guie.export.onnx_file import onnx_embedder, save_onnx
from guie.export.take_away import share_tensors


class Embedding(nn.Module):
    """Means of channels through two linear layers, with a buffer, a constant, and a tensor made in between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(3, 64), nn.Linear(3, 64), nn.Linear(9, 9)
        self.register_buffer("shift", torch.randn(64))
        self.register_buffer("steps", torch.arange(3.0), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        means = images.float().mean(dim=(2, 3)) + self.steps
        wave = torch.arange(64, dtype=torch.float32, device=images.device) * torch.tensor(0.5)
        return self.first(means).clamp(max=float("inf")) + self.second(means) + self.shift + wave


def program(module: nn.Module) -> ExportedProgram:
    sizes = {0: Dim.DYNAMIC, 2: Dim("height", min=1, max=99), 3: Dim("width", min=1, max=99)}
    example = torch.randint(0, 256, (2, 3, 7, 5), dtype=torch.uint8)
    return export(module.eval(), (example,), dynamic_shapes=(sizes,))


@pytest.fixture(scope="module")
def module() -> Embedding:
    torch.manual_seed(0)
    return Embedding()


@pytest.fixture(scope="module")
def exported(module: Embedding) -> ExportedProgram:
    return program(module)


def some_images(n: int = 3, height: int = 4, width: int = 9) -> Tensor:
    return torch.from_numpy(np.random.default_rng(height).integers(0, 256, (n, 3, height, width), dtype=np.uint8))


def run_source(source: str, images: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    names: dict[str, object] = {}
    exec(source, names)
    return names["embed"](images, tensors)  # type: ignore[operator]


def test_source_computes_what_the_module_does(module: Embedding, exported: ExportedProgram):
    source, tensors = as_source(exported, 64)
    for images in (some_images(), some_images(1, 1, 1)):
        torch.testing.assert_close(run_source(source, images, tensors), module(images))
    assert not any("unused" in name for name in tensors) and "cpu" not in source
    sizes = sorted(tensor.numel() for tensor in tensors.values() if tensor.numel() > 1)
    assert sizes == [3, 64, 64, 64, 192, 192]  # steps; shift and two biases; two matrices
    again, _ = as_source(exported, 64)
    assert again == source  # the program was not changed


def test_equal_tensors_are_stored_once(module: Embedding):
    twin = Embedding()
    twin.load_state_dict(module.state_dict())
    both = nn.ModuleList([module, twin])

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.both = both

        def forward(self, images: Tensor) -> Tensor:
            return self.both[0](images) - 2 * self.both[1](images)

    wanted = -module(some_images())
    share_tensors(both)
    source, tensors = as_source(program(Both()), 64)
    assert len([tensor for tensor in tensors.values() if tensor.numel() == 192]) == 2  # not four
    torch.testing.assert_close(run_source(source, some_images(), tensors), wanted)


def test_onnx_of_large_weights_has_a_second_file(
    module: Embedding, exported: ExportedProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(onnx_file, "MAX_INSIDE", 1000)
    save_onnx(exported, tmp_path / "model.onnx", {"recipe": "x"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("model.onnx", "model.onnx.data"):
        (tmp_path / name).rename(moved / name)
    np.testing.assert_allclose(
        onnx_embedder(moved / "model.onnx")(some_images().numpy()), module(some_images()).detach(), atol=1e-3
    )
    facts = onnxruntime.InferenceSession(moved / "model.onnx").get_modelmeta().custom_metadata_map
    assert facts["recipe"] == "x"


class Sorting(nn.Module):
    """Calls an operator that ONNX lacks."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(images.float().mean(dim=1)[:, :3, :3]).repeat(1, 30)[:, :64]


def test_what_cannot_be_written_is_told(tmp_path: Path):
    fixed = export(Sorting(), (some_images(2, 4, 4),))
    with pytest.raises(ValueError, match=r"has an operator that ONNX lacks \(.*\); leave onnx out of --formats"):
        save_onnx(fixed, tmp_path / "model.onnx", {})

    class Two(nn.Module):
        def forward(self, images: Tensor, other: Tensor) -> Tensor:
            return images.float() + other

    two = export(Two(), (some_images(2, 4, 4), some_images(2, 4, 4)))
    with pytest.raises(ValueError, match="takes 2 inputs, must take one"):
        as_source(two, 64)

    class Pair(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images.float(), images.double()

    with pytest.raises(ValueError, match="must return one tensor"):
        as_source(export(Pair(), (some_images(2, 4, 4),)), 64)
