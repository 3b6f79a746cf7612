"""Weights files as people have them: what is inside them is loaded tensor by tensor, or told in one line; none of their
code runs."""

import argparse
import collections
import datetime
import enum
import logging
import pickle
import subprocess
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tower_families import FAMILIES, reduce

from guie.files import PICKLED
from guie.model.backbone import build_backbone
from guie.model.fitting import fits, load_into
from guie.model.found_weights import why_not
from guie.model.libraries import build_network
from guie.model.weights import read_weights
from guie.recipe import Model

Weights = dict[str, Tensor]


def vit(seed: int = 1, px: int = 64, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model("test_vit", img_size=px, **{"num_classes": 0, **options}).eval()


def are_loaded(path: Path, expected: Weights, px: int = 64) -> bool:
    """Whether a network with other weights has exactly these after the file is loaded."""
    network = vit(seed=2, px=px)
    load_into(network, read_weights(path), str(path))
    return all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())


def told_at_loading(
    content: Any, expected: Weights, tmp_path: Path, network: nn.Module, caplog: pytest.LogCaptureFixture
) -> list[str]:
    """What is told while a network is loaded from a file; the network has exactly the expected tensors after it."""
    torch.save(content, tmp_path / "w.pth")
    caplog.clear()
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.INFO, logger="guie"):
        patch.setattr(logging.getLogger("guie"), "propagate", True)
        load_into(network, read_weights(tmp_path / "w.pth", fits=partial(fits, network)), "w.pth")
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
    return [record.getMessage() for record in caplog.records]


def complaint(content: Any, tmp_path: Path, network: nn.Module | None = None) -> str:
    """The error's text, which is one line of a readable length."""
    torch.save(content, tmp_path / "w.pth")
    network, path = network or vit(2), tmp_path / "w.pth"
    with pytest.raises(ValueError, match=r"w\.pth") as caught:
        load_into(network, read_weights(path, fits=partial(fits, network)), str(path))
    text = str(caught.value)
    assert "\n" not in text and len(text.replace(str(tmp_path), "")) < 600, text
    return text


class Evil:
    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.arguments


# ---- wrappers and what lies beside the weights


@pytest.mark.parametrize("ending", PICKLED)
@pytest.mark.parametrize("is_zip", [True, False])
def test_torch_saves_files_are_read(tmp_path: Path, ending: str, is_zip: bool):
    path, weights = tmp_path / f"w{ending}", vit().state_dict()
    torch.save(weights, path, _use_new_zipfile_serialization=is_zip)
    assert are_loaded(path, weights)


WRAPPED = {
    "state_dict": lambda w, other: {"state_dict": w, "epoch": 3},
    "model": lambda w, other: {"model": w, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
    "model_state_dict": lambda w, other: {"model_state_dict": w, "loss": torch.tensor(0.5)},
    "the average before the trained": lambda w, other: {"state_dict": other, "state_dict_ema": w},
    "timm's model_ema": lambda w, other: {"model": other, "model_ema": w},
    "DINO's teacher before the student": lambda w, other: {
        "student": other,
        "teacher": {f"backbone.{k}": t for k, t in w.items()},
    },
    "params_ema": lambda w, other: {"params": other, "params_ema": w},
    "an average without weights": lambda w, other: {"ema": {"decay": 0.999, "updates": 7}, "model": w},
    "an average's counters as tensors": lambda w, other: {
        "ema": {"decay": torch.tensor(0.999), "updates": torch.tensor(7)},
        "model": w,
    },
    "two levels": lambda w, other: {"checkpoint": {"model": {"module": w}}},
    "the teacher's own key": lambda w, other: {"student_state_dict": other, "teacher_state_dict": w},
    "an unknown name": lambda w, other: {"generator": w, "step": 1},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_checkpoints_are_taken_for_their_weights(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    weights = vit().state_dict()
    torch.save(WRAPPED[name](weights, vit(7).state_dict()), tmp_path / "w.pt")
    with caplog.at_level(logging.INFO, logger="guie"):
        monkeypatch.setattr(logging.getLogger("guie"), "propagate", True)
        assert are_loaded(tmp_path / "w.pt", weights)


def test_what_is_left_out_beside_the_weights_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logging.getLogger("guie"), "propagate", True)
    mine, other = vit().state_dict(), timm.create_model("test_vit2").state_dict()
    cases = {
        "'ema' > 'module'; 'model' beside it is left out": {"model": other, "ema": {"module": mine}},
        "'a' > 'teacher'; 'student', 'net' beside it are left out": {
            "a": {"net": other, "teacher": mine, "student": other, "encoder": {"lr": 1.0}}
        },
        "'model'\n": {"model": mine, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
    }
    for told, content in cases.items():
        caplog.clear()
        torch.save(content, tmp_path / "w.pt")
        with caplog.at_level(logging.INFO, logger="guie"):
            assert are_loaded(tmp_path / "w.pt", mine)
        assert f"weights w.pt: taken from {told}" in f"{caplog.text}\n"


def prefixed(weights: Weights, prefix: str) -> Weights:
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


def test_average_of_i_jepa_is_taken_and_encoder_and_predictor_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """The keys of facebookresearch/ijepa, src/train.py; its network has no class token. V-JEPA has these keys, too."""

    def encoder(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        small = {"embed_dim": 48, "depth": 2, "num_heads": 3, "img_size": 56, "num_classes": 0}
        return timm.create_model("vit_huge_patch14_gap_224", **small).eval()

    average, trained = encoder(1).state_dict(), encoder(7).state_dict()
    assert "cls_token" not in average
    predictor = {"predictor_embed.weight": torch.ones(24, 48), "mask_token": torch.ones(1, 1, 24)}
    content = {
        "encoder": prefixed(trained, "module."),
        "predictor": prefixed(predictor, "module."),
        "target_encoder": prefixed(average, "module."),
        "opt": OPTIMIZER,
        "scaler": {"scale": 65536.0, "growth_factor": 2.0},
        "epoch": 300,
        "lr": 1e-6,
    }
    told = told_at_loading(content, average, tmp_path, encoder(2), caplog)
    assert told == ["weights w.pth: taken from 'target_encoder'; 'encoder', 'predictor' beside it are left out"]
    flat = {key: part for key, part in content.items() if key in ("encoder", "target_encoder", "predictor")}
    whole = {f"{key}.{name}": tensor for key, part in flat.items() for name, tensor in part.items()}
    told = told_at_loading(whole, average, tmp_path, encoder(2), caplog)
    assert told == ["weights w.pth: of 2 copies the average is taken, 'target_encoder.module.'"]


def test_teacher_of_dino_is_taken_and_the_student_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """The keys of facebookresearch/dino, main_dino.py: the student is wrapped for several processes, the teacher is
    not."""
    average, trained, head = vit().state_dict(), vit(7).state_dict(), {"mlp.0.weight": torch.ones(5, 64)}
    content = {
        "student": prefixed(trained, "module.backbone.") | prefixed(head, "module.head."),
        "teacher": prefixed(average, "backbone.") | prefixed(head, "head."),
        "optimizer": OPTIMIZER,
        "dino_loss": {"center": torch.ones(1, 9)},
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small"),
    }
    told = told_at_loading(content, average, tmp_path, vit(2), caplog)
    assert told == ["weights w.pth: taken from 'teacher'; 'student' beside it is left out"]


OTHERS = {"wider": {"embed_dim": 96}, "deeper": {"depth": 9}, "shallower": {"depth": 3}}


@pytest.mark.parametrize("size", OTHERS)
def test_average_of_another_network_is_left_for_the_one_that_fits(
    tmp_path: Path, size: str, caplog: pytest.LogCaptureFixture
):
    """As a file of distillation has it: its teacher has another size than the student."""
    mine, other = vit().state_dict(), vit(7, **OTHERS[size]).state_dict()
    cases = {
        "'model' because 'ema' cannot be loaded into the network": {"ema": other, "model": mine},
        "'student' because 'teacher' > 'backbone', 'teacher' cannot be loaded into the network": {
            "teacher": {"backbone": other, "center": torch.ones(1, 9)},
            "student": prefixed(mine, "module.backbone."),
            "optimizer": OPTIMIZER,
        },
        "the outermost names because 'ema' cannot be loaded into the network": {**mine, "ema": other},
        "'model' because 'ema' cannot be loaded into the network; 'net' beside it is left out": {
            "ema": other,
            "model": mine,
            "net": other,
        },
    }
    for told, content in cases.items():
        assert told_at_loading(content, mine, tmp_path, vit(2), caplog) == [f"weights w.pth: taken from {told}"]
        assert are_built(tmp_path / "w.pth", mine)
    assert told_at_loading({"ema": mine, "model": other}, mine, tmp_path, vit(2), caplog) == [
        "weights w.pth: taken from 'ema'; 'model' beside it is left out"
    ]


@pytest.mark.parametrize("damage", ["two tensors of one name", "a position embedding of two images", "two copies"])
def test_average_that_cannot_be_read_is_left_for_the_one_that_fits(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
):
    mine, other = vit().state_dict(), vit(7).state_dict()
    if damage == "two tensors of one name":
        other["_orig_mod.cls_token"] = other["cls_token"] + 1
    elif damage == "two copies":
        other = prefixed(other, "a.") | prefixed(vit(8).state_dict(), "b.")
    else:
        other["pos_embed"] = torch.zeros(2, 37, 64)
    assert told_at_loading({"ema": other, "model": mine}, mine, tmp_path, vit(2), caplog) == [
        "weights w.pth: taken from 'model' because 'ema' cannot be loaded into the network"
    ]


@pytest.mark.parametrize("size", OTHERS)
def test_average_of_another_network_is_left_in_files_without_dicts(
    tmp_path: Path, size: str, caplog: pytest.LogCaptureFixture
):
    mine, other = vit().state_dict(), vit(7, **OTHERS[size]).state_dict()
    content = prefixed(other, "teacher.") | prefixed(mine, "student.")
    told = told_at_loading(content, mine, tmp_path, vit(2), caplog)
    expected = ["weights w.pth: left out, because they do not fit the network: 'teacher.'"]
    assert told == expected
    assert are_built(tmp_path / "w.pth", mine)
    content = prefixed(mine, "teacher.") | prefixed(other, "student.")
    told = told_at_loading(content, mine, tmp_path, vit(2), caplog)
    assert told == ["weights w.pth: left out, because they do not fit the network: 'student.'"]


def are_built(path: Path, expected: Weights) -> bool:
    """Whether a backbone is found to fit the file by names and shapes alone, and has its tensors when it is built."""
    model = Model("timm", "test_vit")
    assert why_not(model, path) == ""
    built = build_backbone(model, 64, path).network.state_dict()
    return all(torch.equal(built[name], tensor) for name, tensor in expected.items() if name != "pos_embed")


def test_interpolation_is_told_once_where_copies_are_tried(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    average, network = vit(px=96).state_dict(), vit(2)
    load_into(network, average, "w")
    expected = {**average, "pos_embed": network.pos_embed.detach().clone()}
    told = told_at_loading({"ema": average, "model": vit(7, depth=3).state_dict()}, expected, tmp_path, vit(2), caplog)
    assert told == [
        "weights w.pth: taken from 'ema'; 'model' beside it is left out",
        "the position embedding is interpolated from 6 x 6 to 4 x 4",
    ]


def test_error_where_nothing_fits_is_that_of_the_average(tmp_path: Path):
    text = complaint({"model": vit(7, depth=3).state_dict(), "ema": vit(7, embed_dim=96).state_dict()}, tmp_path)
    assert "have another shape (" in text and "96 for 1x1x64" in text


PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "backbone.",
    "encoder.",
    "visual.",
    "module.model.",
    "_orig_mod.module.backbone.",
    "model.visual.",
    "module.encoder_q.",
    "backbone.network.",
    "student.backbone.",
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_are_left_out_and_so_is_what_has_none(tmp_path: Path, prefix: str):
    weights = vit().state_dict()
    beside = {
        "queue": torch.randn(4, 2),
        "projector.0.weight": torch.randn(3, 3),
        "transformer.resblocks.0.mlp.c_fc.weight": torch.randn(2, 2),
    }
    torch.save(
        {f"{prefix}{name}": tensor for name, tensor in weights.items()} | ({} if prefix == "_orig_mod." else beside),
        tmp_path / "w.pt",
    )
    assert are_loaded(tmp_path / "w.pt", weights)


def test_marks_of_compiled_and_sharded_blocks_inside_names_are_left_out(tmp_path: Path):
    weights = vit().state_dict()
    marked = {
        name.replace("blocks.1.", "blocks.1._orig_mod.").replace("attn.", "_fsdp_wrapped_module.attn."): tensor
        for name, tensor in weights.items()
    }
    save_file(marked, tmp_path / "w.safetensors")
    assert set(marked) != set(weights) and are_loaded(tmp_path / "w.safetensors", weights)


def test_one_name_with_and_without_a_mark_is_told_where_the_tensors_differ(tmp_path: Path):
    weights, other = vit(1).state_dict(), vit(7).state_dict()
    text = complaint({**weights, **{f"_orig_mod.{name}": tensor for name, tensor in other.items()}}, tmp_path)
    assert "holds two different tensors cls_token, one of them as _orig_mod.cls_token; save only one of them" in text
    torch.save({**weights, **{f"_orig_mod.{name}": tensor for name, tensor in weights.items()}}, tmp_path / "w.pt")
    assert are_loaded(tmp_path / "w.pt", weights)


def test_two_copies_of_the_network_are_not_chosen_from(tmp_path: Path):
    both = {f"encoder_q.{n}": t for n, t in vit(1).state_dict().items()} | {
        f"encoder_k.{n}": t for n, t in vit(7).state_dict().items()
    }
    assert "holds the network 2 times, under 'encoder_q.', 'encoder_k.'; save only the one that you want" in complaint(
        both, tmp_path
    )
    weights = vit().state_dict()
    torch.save(
        {f"a.{n}": t for n, t in weights.items()} | {f"b.c.{n}": t for n, t in weights.items()}, tmp_path / "w.pt"
    )
    assert are_loaded(tmp_path / "w.pt", weights)  # the same twice


@pytest.mark.parametrize(
    ("average", "trained"),
    [("teacher.backbone.", "student.backbone."), ("ema.module.", "model.net."), ("model_ema.", "model.")],
)
def test_of_an_average_and_the_trained_network_the_average_is_taken(tmp_path: Path, average: str, trained: str):
    weights, other = vit().state_dict(), vit(7).state_dict()
    torch.save(
        {f"{trained}{n}": t for n, t in other.items()} | {f"{average}{n}": t for n, t in weights.items()},
        tmp_path / "w.pt",
    )
    assert are_loaded(tmp_path / "w.pt", weights)


class Colour(enum.Enum):
    RED = 1


class Settings(dict):  # type: ignore[type-arg]
    """As addict's and mmcv's."""


class Box:
    """As OmegaConf's: an object with a state."""

    def __init__(self) -> None:
        self._content, self._parent = {"lr": Settings(a=1)}, None


BESIDE = {
    "namespace": argparse.Namespace(lr=0.1, path=Path("/tmp")),
    "float64": np.float64(0.5),
    "int64": np.int64(3),
    "array": np.random.rand(3),
    "random state": np.random.get_state(),
    "date": datetime.datetime(2026, 11, 25),
    "duration": datetime.timedelta(3),
    "enum": Colour.RED,
    "settings": Settings(a={"b": 1}),
    "box": Box(),
    "path": Path("/x"),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "sets": ({1}, frozenset({2})),
    "range": range(3),
    "optimizer": torch.optim.Adam([nn.Parameter(torch.ones(1))]).state_dict(),
}


@pytest.mark.parametrize("name", BESIDE)
def test_objects_beside_the_weights_do_no_harm(tmp_path: Path, name: str):
    weights = vit().state_dict()
    torch.save({"epoch": 1, "args": BESIDE[name], "state_dict": weights}, tmp_path / "w.pt")
    assert are_loaded(tmp_path / "w.pt", weights)


def test_classes_that_are_not_installed_do_no_harm(tmp_path: Path):
    module = types.ModuleType("config_library_of_theirs")
    box = type("Config", (Box,), {"__module__": module.__name__})
    module.Config = box  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    weights = vit().state_dict()
    try:
        torch.save({"cfg": box(), "model": weights}, tmp_path / "w.pt")
    finally:
        del sys.modules[module.__name__]
    assert are_loaded(tmp_path / "w.pt", weights)


@pytest.mark.parametrize("call", ["os.system", "exec", "eval", "getattr", "subprocess.call"])
def test_nothing_of_a_file_is_run(tmp_path: Path, call: str):
    import os

    ran = tmp_path / "ran"
    evil = {
        "os.system": Evil(os.system, f"touch {ran}"),
        "exec": Evil(exec, f"open({str(ran)!r}, 'w')"),
        "eval": Evil(eval, f"open({str(ran)!r}, 'w')"),
        "getattr": Evil(getattr, Path, "exists"),
        "subprocess.call": Evil(subprocess.call, ["touch", str(ran)]),
    }[call]
    torch.save({"x": evil, "model": vit().state_dict()}, tmp_path / "w.pt")
    if call == "subprocess.call":  # an empty placeholder is called in its place
        assert are_loaded(tmp_path / "w.pt", vit().state_dict())
    else:
        with pytest.raises(ValueError, match=r"would call \S+ when it is opened, which weights never do"):
            read_weights(tmp_path / "w.pt")
    assert not ran.exists()


@pytest.mark.parametrize("content", [b"", b"no pickle at all", pickle.dumps(Evil(exec, "1 / 0"))])
def test_damaged_files_are_told(tmp_path: Path, content: bytes):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.pt .*damaged, or holds more than weights.*fetch it") as caught:
        read_weights(tmp_path / "w.pt")
    assert "\n" not in str(caught.value) and "( )" not in str(caught.value) and len(str(caught.value)) < 450


def test_safetensors_by_another_name_are_told(tmp_path: Path):
    save_file(vit().state_dict(), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt is a safetensors file; rename it so that its name ends in \.safetens"):
        read_weights(tmp_path / "w.pt")


def test_truncated_file_is_told(tmp_path: Path):
    torch.save(vit().state_dict(), tmp_path / "w.pt")
    (tmp_path / "w.pt").write_bytes((tmp_path / "w.pt").read_bytes()[:-300])
    with pytest.raises(ValueError, match="is damaged, or holds more than weights"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"a": 1}, "a dict of 'a'"),
        ([torch.ones(1)], "a list"),
        ({}, "a dict"),
        (torch.ones(2), "a Tensor"),
        (nn.Linear(2, 2), "an object of torch.nn.modules.linear.Linear"),
    ],
)
def test_files_without_weights_say_what_they_hold(tmp_path: Path, content: Any, told: str):
    assert f"holds no weights by name: {told}" in complaint(content, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_torchscript_archive_comes_with_the_command(tmp_path: Path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(tmp_path / "w.pt"))
    with pytest.raises(ValueError, match=r"is a TorchScript archive") as caught:
        read_weights(tmp_path / "w.pt")
    command = str(caught.value).partition("extract its weights: ")[2].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, capture_output=True)
    assert set(read_weights(tmp_path / "weights.pt")) == {"weight", "bias"}


# ---- whether they fit


def test_heads_masks_and_decoders_are_left_out(tmp_path: Path):
    weights = vit().state_dict()
    for extra in (
        "head.weight",
        "fc.bias",
        "classifier.1.weight",
        "head_dist.weight",
        "heads.head.weight",
        "mask_token",
        "decoder_blocks.0.norm1.weight",
        "decoder_pos_embed",
    ):
        torch.save({**weights, extra: torch.randn(10, 64)}, tmp_path / "w.pt")
        assert are_loaded(tmp_path / "w.pt", weights), extra
    convolutions = timm.create_model("test_convnext", num_classes=10)
    network = timm.create_model("test_convnext", num_classes=0)
    load_into(network, convolutions.state_dict(), "w")  # head.fc, but not head.norm, which stands before the feature
    assert torch.equal(network.head.norm.weight, convolutions.head.norm.weight)


def test_head_of_a_wrapped_tower_is_loaded(tmp_path: Path):
    from open_clip.timm_model import TimmModel

    towers = [TimmModel("test_vit", 8, image_size=64, pool="", proj="linear") for _ in range(2)]
    torch.save(
        {
            "state_dict": {f"module.visual.{n}": t for n, t in towers[0].state_dict().items()}
            | {"module.logit_scale": torch.tensor(1.0)}
        },
        tmp_path / "w.pt",
    )
    load_into(towers[1], read_weights(tmp_path / "w.pt"), "w")
    assert all(torch.equal(tensor, towers[0].state_dict()[name]) for name, tensor in towers[1].state_dict().items())


def test_half_precision_is_loaded_as_its_values(tmp_path: Path):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        weights = {name: tensor.to(dtype) for name, tensor in vit().state_dict().items()}
        torch.save(weights, tmp_path / "w.pt")
        assert are_loaded(tmp_path / "w.pt", {name: tensor.float() for name, tensor in weights.items()})


def test_counters_of_batch_norms_may_be_missing(tmp_path: Path):
    weights = {
        n: t for n, t in timm.create_model("test_resnet").state_dict().items() if not n.endswith("num_batches_tracked")
    }
    network = timm.create_model("test_resnet", num_classes=0)
    load_into(network, weights, "w")
    assert all(
        torch.equal(network.state_dict()[name], tensor)
        for name, tensor in weights.items()
        if not name.startswith("fc.")
    )


def test_what_does_not_fit_is_counted_with_three_examples(tmp_path: Path):
    weights = vit().state_dict()
    short = {name: tensor for name, tensor in weights.items() if not name.startswith(("blocks.0", "norm."))}
    assert f"of its {len(weights)} tensors are missing (blocks.0." in complaint(short, tmp_path)
    assert "1 are not known to it (blocks.0.ls9.gamma)" in complaint(
        {**weights, "blocks.0.ls9.gamma": torch.ones(64)}, tmp_path
    )
    other = complaint({**weights, "norm.weight": torch.ones(3)}, tmp_path)
    assert "1 have another shape (norm.weight (3 for 64))" in other and "a VisionTransformer" in other
    assert "is no" not in complaint({f"stages.{i}.w": torch.ones(2) for i in range(300)}, tmp_path)


@pytest.mark.parametrize(
    ("names", "whose"),
    [
        (("conv_proj.weight", "encoder.layers.encoder_layer_0.ln_1.weight", "heads.head.weight"), "torchvision's"),
        (
            ("vit.embeddings.patch_embeddings.projection.weight", "vit.encoder.layer.0.output.dense.weight"),
            "Hugging Face's",
        ),
        (("features.0.0.weight", "features.1.conv.0.0.weight"), "torchvision's"),
    ],
)
def test_names_of_other_libraries_are_recognised(tmp_path: Path, names: tuple[str, ...], whose: str):
    assert f"The names look like {whose}" in complaint({name: torch.ones(2) for name in names}, tmp_path)


def test_names_that_timm_can_convert_are_converted(tmp_path: Path):
    """OpenAI's CLIP names for timm's CLIP tower, and its position embedding, which has no batch dimension there."""
    import open_clip

    torch.manual_seed(0)
    tower = open_clip.transformer.VisionTransformer(
        64, 16, 64, 2, 1, 4.0, output_dim=32, act_layer=open_clip.transformer.QuickGELU
    ).eval()
    network = timm.create_model(
        "vit_base_patch32_clip_quickgelu_224",
        num_classes=32,
        patch_size=16,
        img_size=64,
        embed_dim=64,
        depth=2,
        num_heads=1,
    ).eval()
    torch.save({f"visual.{name}": tensor for name, tensor in tower.state_dict().items()}, tmp_path / "w.pt")
    load_into(network, read_weights(tmp_path / "w.pt"), "w")
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), tower(pixels), rtol=1e-4, atol=1e-5)


def mobile_clip(tower: nn.Module) -> Weights:
    """The tensors of timm's MobileCLIP-B under Apple's names, as in apple/ml-mobileclip (mobileclip_b.pt)."""
    renamed = {
        "patch_embed.backbone.": "patch_emb.",
        ".conv.": ".block.conv.",
        ".bn.": ".block.norm.",
        "blocks.": "transformer.",
        ".norm1.": ".pre_norm_mha.0.",
        ".attn.qkv.": ".pre_norm_mha.1.qkv_proj.",
        ".attn.proj.": ".pre_norm_mha.1.out_proj.",
        ".norm2.": ".pre_norm_ffn.0.",
        ".mlp.fc1.": ".pre_norm_ffn.1.",
        ".mlp.fc2.": ".pre_norm_ffn.4.",
    }
    found: Weights = {}
    for name, tensor in tower.state_dict().items():
        for ours, theirs in renamed.items():
            name = name.replace(ours, theirs)
        if name.startswith("norm."):
            name = f"post_transformer_{name}"
        if name == "pos_embed":
            name, tensor = "pos_embed.pos_embed.pos_embed", tensor[None]
        if name == "head.weight":
            name, tensor = "classifier.proj", tensor.T
        if name != "head.bias":  # Apple's projection has none
            found[f"image_encoder.model.{name}"] = tensor
    return found


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("library", ["timm", "open_clip"])
def test_apples_names_are_converted_for_both_libraries(library: str, prefix: str, monkeypatch: pytest.MonkeyPatch):
    names = {"timm": "vit_base_mci_224", "open_clip": "MobileCLIP2-B"}
    reduce(next(family for family in FAMILIES if family.name == names[library]), monkeypatch)
    original = timm.create_model("vit_base_mci_224", num_classes=512).eval()
    nn.init.zeros_(original.head.bias)
    network = build_network(Model(library, names[library])).eval()  # type: ignore[arg-type]
    apples = {f"{prefix}{n}": t for n, t in mobile_clip(original).items()} | {"text_encoder.x": torch.ones(2)}
    load_into(network, apples, "mobileclip_b.pt")
    if library == "timm":
        original.reset_classifier(0)
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), original(pixels))


def test_metas_names_of_dinov2_with_registers_are_converted_below_a_prefix():
    small = {"depth": 2, "embed_dim": 48, "num_heads": 3, "img_size": 56, "num_classes": 0}
    first, network = (timm.create_model("vit_small_patch14_reg4_dinov2", **small).eval() for _ in range(2))
    nn.init.normal_(first.cls_token)
    metas = first.state_dict()
    metas["register_tokens"] = metas.pop("reg_token")
    metas["pos_embed"] = torch.cat([torch.ones(1, 1, 48), metas["pos_embed"]], dim=1)
    metas["cls_token"] = metas["cls_token"] - 1.0  # the class token has a position in Meta's files
    metas["mask_token"] = torch.zeros(1, 48)
    load_into(
        network,
        {f"teacher.backbone.{n}": t for n, t in metas.items()} | {"teacher.dino_head.last.weight": torch.ones(3, 3)},
        "teacher_checkpoint.pth",
    )
    pixels = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), first(pixels), atol=1e-5, rtol=1e-4)


def test_timms_file_fits_open_clips_wrapper_of_the_network(monkeypatch: pytest.MonkeyPatch):
    reduce(next(family for family in FAMILIES if family.name == "ViT-B-32-SigLIP2-256"), monkeypatch)
    first = timm.create_model("vit_base_patch32_siglip_256", num_classes=0).eval()
    network = build_network(Model("open_clip", "ViT-B-32-SigLIP2-256")).eval()
    load_into(network, first.state_dict(), "model.safetensors")
    pixels = torch.randn(2, 3, 256, 256)
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), first(pixels))


def test_radios_own_file_is_told(tmp_path: Path):
    """timm would interpolate its position embedding otherwise than RADIO does."""
    small = {"depth": 1, "embed_dim": 48, "num_heads": 3}
    network = timm.create_model("vit_base_patch16_radio_v3", num_classes=0, **small)
    weights = {"radio_model.model.patch_generator.embedder.weight": torch.ones(48, 768), "radio_model.x": torch.ones(2)}
    assert "The names look like NVIDIA's RADIO: take the weights under the library's own names" in complaint(
        weights, tmp_path, network
    )


@pytest.mark.parametrize(("old", "new"), [(64, 96), (96, 64)])
def test_position_embedding_of_another_grid_is_interpolated_as_timm_does(tmp_path: Path, old: int, new: int):
    from timm.layers import resample_abs_pos_embed

    weights = vit(px=old).state_dict()
    torch.save({f"module.{n}": t for n, t in weights.items()}, tmp_path / "w.pt")
    expected = resample_abs_pos_embed(weights["pos_embed"], (new // 16, new // 16), num_prefix_tokens=1)
    network = vit(2, px=new)
    load_into(network, read_weights(tmp_path / "w.pt"), "w")
    torch.testing.assert_close(network.pos_embed.data, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(network.cls_token, weights["cls_token"])


def test_position_embedding_that_is_no_square_is_told(tmp_path: Path):
    text = complaint({**vit().state_dict(), "pos_embed": torch.randn(1, 1 + 15, 64)}, tmp_path)
    assert "1 have another shape (pos_embed (1x16x64 for 1x17x64))" in text


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_told_by_tensor(tmp_path: Path, bad: float):
    weights = vit().state_dict()
    weights["blocks.1.mlp.fc1.weight"][3, 5] = bad
    text = complaint({"state_dict": weights}, tmp_path)
    assert f"1 of its {len(weights)} tensors hold NaN or infinite numbers, blocks.1.mlp.fc1.weight first (1 of " in text
    weights = vit(num_classes=5).state_dict()
    weights["head.weight"][0, 0] = bad
    torch.save(weights, tmp_path / "w.pt")
    load_into(vit(2), read_weights(tmp_path / "w.pt"), "w")  # of a head that is left out


def test_quantised_weights_are_told(tmp_path: Path):
    weights = vit().state_dict()
    weights["norm.weight"] = (weights["norm.weight"] * 100).to(torch.int8)
    assert "1 of its tensors, norm.weight first, are torch.int8, quantised" in complaint(weights, tmp_path)
    weights["norm.weight"] = torch.ones(64).to(torch.float8_e4m3fn)
    assert "1 of its tensors, norm.weight first, are torch.float8_e4m3fn, quantised" in complaint(weights, tmp_path)


def test_sparse_weights_and_those_without_values_are_told(tmp_path: Path):
    weights = vit().state_dict()
    assert "norm.weight first, are torch.float32, sparse" in complaint(
        {**weights, "norm.weight": weights["norm.weight"].to_sparse()}, tmp_path
    )
    assert "norm.weight first, are torch.float32, without values" in complaint(
        {**weights, "norm.weight": weights["norm.weight"].to("meta")}, tmp_path
    )


def test_weights_of_the_whole_road(tmp_path: Path):
    """From a file with all of it at once to the same features."""
    whole = vit(num_classes=7, px=160)
    content = {
        "args": argparse.Namespace(a=1),
        "best": np.float64(0.3),
        "model_ema": {f"_orig_mod.module.backbone.{n}": t.half() for n, t in whole.state_dict().items()},
    }
    torch.save(content, tmp_path / "w.ckpt")
    whole.load_state_dict({n: t.half().float() for n, t in whole.state_dict().items()})
    whole.reset_classifier(0)
    backbone, pixels = build_backbone(Model("timm", "test_vit"), 160, tmp_path / "w.ckpt"), torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        torch.testing.assert_close(backbone(pixels), whole(pixels), rtol=1e-4, atol=1e-5)
