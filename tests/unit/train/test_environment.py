"""What `accelerate config` and the environment hold changes no weight: it is overruled, or refused in one line."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import accelerate
import pytest
import torch
from opening import forked

from guie.embed.accelerator import OTHER_TRAINERS, make_accelerator
from guie.files import digest_of_tensors, load_weights

SCRIPT = """
import sys
from pathlib import Path
from guie.door import open_door

FOLDER = Path(sys.argv[1])
WORK = ["guie.data.build:build_manifests", "guie.data.balance:merge_and_balance", "guie.data.packing:pack_images",
        "guie.train.stage:train_phase", "guie.train.stage:train_phase"]
for number, work in enumerate(WORK, 1):
    words = {4: {"phase": "head"}, 5: {"phase": "backbone"}}.get(number, {})
    options = ["--recipe", str(FOLDER / "small.py"), "--out", str(FOLDER), "--device", "cpu"]
    status = open_door(number, "A door.", work, options, **words)
    if status:
        sys.exit(status)
"""
RECIPE = '''
"""Two stages on a small world: one on cached features, one through the backbone."""
from dataclasses import replace
from guie.recipe import Cost, DrawnWorld, Stages
from guie.recipes.tiny import RECIPE as TINY

HEAD, BACKBONE = (
    replace(stage, optim=replace(stage.optim, n_epochs=2, batch_size=8))
    for stage in (TINY.stage("s1_head"), TINY.stage("s2_backbone"))
)
RECIPE = replace(
    TINY,
    name="small",
    data=replace(TINY.data, drawn=DrawnWorld(4, 6, 48)),
    stages=Stages(
        head=(HEAD,), backbone=(replace(BACKBONE, cost=Cost(n_parts=2), optim=replace(BACKBONE.optim, clip_norm=1.0)),)
    ),
    embed=replace(TINY.embed, settings=TINY.embed.settings[:2]),
)
'''
# Values that another kind of training would set.
CHANGES = {
    "dynamo": {"ACCELERATE_DYNAMO_BACKEND": "EAGER", "ACCELERATE_DYNAMO_MODE": "default",
               "ACCELERATE_DYNAMO_USE_DYNAMIC": "true"},
    "accumulation": {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"},
    "precision": {"ACCELERATE_MIXED_PRECISION": "bf16"},
    "fp8": {"ACCELERATE_MIXED_PRECISION": "fp8"},
    "rest": {"ACCELERATE_DEBUG_MODE": "1", "ACCELERATE_CPU_AFFINITY": "1", "ACCELERATE_DOWNCAST_BF16": "1",
             "FP8_BACKEND": "TE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1", "ONEDNN_DEFAULT_FPMATH_MODE": "ANY",
             "FSDP_OFFLOAD_PARAMS": "true", "ACCELERATE_GRADIENT_CLIPPING": "0.001",
             "ACCELERATE_USE_DEEPSPEED": "false"},
}  # fmt: skip


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "FSDP_", "FP8_"))}


def trained(folder: Path, is_forked: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Two stages, trained with these variables; those of torch and oneDNN need a new Python."""
    (folder / "small.py").write_text(RECIPE)
    (folder / "train.py").write_text(SCRIPT)
    command = [str(folder / "train.py"), str(folder)]
    variables = clean_environment() | {"OMP_NUM_THREADS": "1"} | environment
    if is_forked:
        return forked(command, env=variables)
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=variables, timeout=300)


def digests(folder: Path) -> list[str]:
    return [digest_of_tensors(load_weights(path)) for path in sorted(folder.glob("small/0*/*/final.safetensors"))]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in an environment that holds nothing."""
    folder = tmp_path_factory.mktemp("clean")
    done = trained(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] * (name not in ("dynamo", "rest"))) for name in CHANGES]
)
def test_weights_are_the_same_bits_whatever_the_environment_holds(tmp_path: Path, clean: Path, name: str) -> None:
    for part in ("drawn", "01_manifests", "02_balanced", "03_packed"):
        shutil.copytree(clean / "small" / part, tmp_path / "small" / part)
    done = trained(tmp_path, is_forked=name != "rest", **CHANGES[name])
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(digests(clean)) == 2 and digests(tmp_path) == digests(clean)
    told = done.stdout.count("is not used: the recipe and the device decide")
    assert told == (0 if name == "rest" else 2)  # once a phase


@pytest.mark.parametrize("name", list(OTHER_TRAINERS))
@pytest.mark.parametrize("word", ["true", "True", "1"])
def test_other_kind_of_training_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str, word: str) -> None:
    monkeypatch.setenv(name, word)
    with pytest.raises(
        ValueError, match=f"^{name}={word}, .* unset it, or start with accelerate launch --multi_gpu"
    ) as caught:
        make_accelerator("cpu")
    assert "\n" not in str(caught.value)


def test_every_kind_of_training_that_accelerate_knows_is_refused() -> None:
    folder = Path(accelerate.__file__).parent
    text = "".join((folder / name).read_text(encoding="utf-8") for name in ("accelerator.py", "state.py"))
    assert set(re.findall(r"ACCELERATE_USE_[A-Z_]+", text)) == set(OTHER_TRAINERS) | {"ACCELERATE_USE_CPU"}


@pytest.mark.parametrize("word", ["false", "False", "0"])
def test_other_kind_of_training_that_is_off_is_no_matter(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    for name in OTHER_TRAINERS:
        monkeypatch.setenv(name, word)
    assert make_accelerator("cpu").device.type == "cpu"


def test_float32_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards would compute products and convolutions in TF32, with three digits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch.set_float32_matmul_precision("high")
    make_accelerator("cpu")
    assert not torch.backends.cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "highest"


MAKES = ["-c", "from guie.embed.accelerator import make_accelerator\nmake_accelerator('cpu')"]


def test_device_that_the_environment_changes_is_refused() -> None:
    done = forked(MAKES, env=os.environ | {"ACCELERATE_TORCH_DEVICE": "meta"})
    assert done.stderr.splitlines()[-1] == (
        "ValueError: --device cpu, but ACCELERATE_TORCH_DEVICE=meta in the environment asks for 'meta'; "
        "unset ACCELERATE_TORCH_DEVICE, or give the same --device"
    )


@pytest.mark.parametrize(("name", "value"), [("ACCELERATE_USE_CPU", "maybe"), ("ACCELERATE_TORCH_DEVICE", "no_device")])
def test_word_that_accelerate_does_not_know_is_told_with_its_variable(name: str, value: str) -> None:
    done = forked(MAKES, env=os.environ | {name: value})
    assert done.stderr.splitlines()[-1].startswith(
        "ValueError: accelerate cannot start with these environment variables ("
    )
    assert f"{name}={value}" in done.stderr.splitlines()[-1]
