"""Makes the Accelerator. A run's numbers depend on its recipe and device, not on `accelerate config` or the
environment."""

from __future__ import annotations

import logging
import os

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, TorchDynamoPlugin, str_to_bool

from guie.embed.extract import half_of

log = logging.getLogger(__name__)
# Variables that `accelerate launch` sets for other kinds of training, with the names that the error message uses.
OTHER_TRAINERS = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_FSDP": "accelerate's FSDP",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
    "ACCELERATE_USE_SAGEMAKER": "SageMaker's launcher",
}


def make_accelerator(device: str, mixed_precision: str = "no") -> Accelerator:
    """Returns an Accelerator for a device. It sets everything that accelerate would otherwise read from the
    environment.

    The environment's dynamo backend, gradient accumulation and mixed precision are ignored, each with a log line. A
    dynamo backend would rename the weights to `_orig_mod.*`. Gradient accumulation would divide every gradient; stages
    use their own `cost.n_parts` instead. float32 products and convolutions are computed without TF32.

    Args:
        device: The run's device: `cpu`, `cuda` or `cuda:N`.
        mixed_precision: `no`, `bf16` or `fp16`.

    Raises:
        ValueError: the environment asks for another kind of training or another device, or accelerate cannot read it.
    """
    _check_environment(mixed_precision)
    keep_float32()
    try:
        accelerator = Accelerator(
            cpu=device == "cpu",
            mixed_precision=mixed_precision,
            dynamo_plugin=TorchDynamoPlugin(
                backend="no", mode="default", fullgraph=False, dynamic=False, use_regional_compilation=False
            ),
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        )
    except (
        ValueError,
        RuntimeError,
    ) as error:  # a variable that is neither yes nor no, or a device that does not exist
        held = ", ".join(
            f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("ACCELERATE_")
        )
        if not held:
            raise
        raise ValueError(
            f"accelerate cannot start with these environment variables ({held}); unset the wrong one: {error}"
        ) from error
    if accelerator.device.type != torch.device(device).type:
        names = [name for name in ("ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE") if name in os.environ]
        why = (
            f"{' and '.join(f'{name}={os.environ[name]}' for name in names)} in the environment"
            if names
            else "accelerate"
        )
        raise ValueError(
            f"--device {device}, but {why} asks for {accelerator.device.type!r}; "
            f"{f'unset {names[0]}, or ' if names else ''}give the same --device"
        )
    return accelerator


def keep_float32() -> None:
    """Turns TF32 off for float32 products and convolutions. TF32 keeps three decimal digits, and GPUs may use it by
    default."""
    torch.set_float32_matmul_precision("highest")  # NVIDIA's containers set TORCH_ALLOW_TF32_CUBLAS_OVERRIDE
    torch.backends.cudnn.allow_tf32 = False  # torch's default computes float32 convolutions in TF32


def _check_environment(mixed_precision: str) -> None:
    """Logs the settings of the environment that are ignored.

    Raises:
        ValueError: it asks for another kind of training.
    """
    for name, trainer in OTHER_TRAINERS.items():
        if _is_on(name):
            raise ValueError(
                f"{name}={os.environ[name]}, set by accelerate config or in the shell, asks for {trainer}, which this "
                "trainer does not use: unset it, or start with accelerate launch --multi_gpu; a stage's "
                "has_sharded_weights spreads its weights over the cards"
            )
    for name, ours in (
        ("MIXED_PRECISION", mixed_precision),
        ("DYNAMO_BACKEND", "no"),
        ("GRADIENT_ACCUMULATION_STEPS", "1"),
    ):
        given = os.environ.get(f"ACCELERATE_{name}", "no")
        if given.lower() not in ("no", "1", ours):  # accelerate launch sets "no" by default
            log.warning(
                "ACCELERATE_%s=%s is not used: the recipe and the device decide, which is %r here", name, given, ours
            )


def precision_of(device: str) -> str:
    """Mixed precision that suits the device: none on a CPU, bf16, or fp16 with a scaled loss on cards without bf16 (T4,
    V100)."""
    return {None: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}[half_of(torch.device(device))]


def _is_on(name: str) -> bool:
    """Whether an environment variable has a value that accelerate reads as yes, or one that it cannot read."""
    try:
        return bool(str_to_bool(os.environ.get(name, "false")))
    except ValueError:  # neither yes nor no
        return True
