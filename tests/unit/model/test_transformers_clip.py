"""transformers' CLIP renamed for open_clip's image tower: both libraries compute the same features."""

import os
from pathlib import Path

import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor

os.environ.setdefault("USE_TF", "0")
transformers = pytest.importorskip("transformers")
from guie.model.fitting import load_into  # noqa: E402
from guie.model.transformers_clip import as_open_clip  # noqa: E402


def _theirs(activation: str = "gelu") -> torch.nn.Module:
    """A small random CLIP image tower of transformers, no two of whose parameters are alike."""
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3, image_size=32, patch_size=8,
        projection_dim=10, hidden_act=activation,
    )  # fmt: skip
    model = transformers.CLIPVisionModelWithProjection(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model


def _ours(image_px: int = 32) -> VisionTransformer:
    return VisionTransformer(image_px, 8, 24, 3, 3, 40 / 24, output_dim=10).eval()


@torch.no_grad()
def _features_of_theirs(model: torch.nn.Module, pixels: Tensor) -> Tensor:
    return model(pixel_values=pixels).image_embeds


@torch.no_grad()
def test_both_libraries_compute_the_same_features() -> None:
    theirs, ours, pixels = _theirs(), _ours(), torch.randn(5, 3, 32, 32)
    load_into(ours, theirs.state_dict(), "model.safetensors")
    expected, got = _features_of_theirs(theirs, pixels), ours(pixels)
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    # the oracle sees another activation, which the names do not show
    assert (_features_of_theirs(_theirs("quick_gelu"), pixels) - got).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "model.", "module.clip."])
def test_whole_clip_with_its_text_tower_and_any_prefix_is_read(prefix: str) -> None:
    text = transformers.CLIPTextConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=50
    )
    vision = _theirs().config
    config = transformers.CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=10)
    whole = transformers.CLIPModel(config).eval()
    whole.load_state_dict(_theirs().state_dict(), strict=False)
    ours, pixels = _ours(), torch.randn(2, 3, 32, 32)
    load_into(ours, {prefix + name: tensor for name, tensor in whole.state_dict().items()}, "pytorch_model.bin")
    torch.testing.assert_close(ours(pixels), _features_of_theirs(_theirs(), pixels), rtol=1e-5, atol=1e-5)


def test_position_embedding_is_interpolated_as_of_any_weights() -> None:
    ours = _ours(48)
    load_into(ours, _theirs().state_dict(), "model.safetensors")
    assert ours.positional_embedding.shape == (37, 24)
    class_position = _theirs().state_dict()["vision_model.embeddings.position_embedding.weight"][0]
    torch.testing.assert_close(ours.positional_embedding[0], class_position)


@pytest.mark.parametrize(
    "lost",
    [
        "vision_model.encoder.layers.1.self_attn.k_proj.weight",
        "visual_projection.weight",
        "vision_model.post_layernorm.bias",
    ],
)
def test_tower_that_lacks_a_tensor_is_refused(lost: str) -> None:
    weights = {name: tensor for name, tensor in _theirs().state_dict().items() if name != lost}
    with pytest.raises(ValueError, match=r"model.safetensors does not fit the backbone.*Hugging Face's transformers"):
        load_into(_ours(), weights, "model.safetensors")


def test_each_tensor_of_the_tower_is_used_once_and_unknown_ones_are_kept() -> None:
    weights = _theirs().state_dict() | {"vision_model.encoder.layers.0.gate.weight": torch.ones(1)}
    renamed = as_open_clip(weights)
    n = sum(tensor.numel() for name, tensor in weights.items() if not name.endswith("position_ids"))
    assert sum(tensor.numel() for tensor in renamed.values()) == n
    assert renamed.keys() - _ours().state_dict().keys() == {"vision_model.encoder.layers.0.gate.weight"}
    assert as_open_clip({"visual.conv1.weight": torch.ones(1)}) == {}


def test_file_of_transformers_loads_as_any_other(tmp_path: Path) -> None:
    from guie.model.weights import read_weights

    _theirs().save_pretrained(tmp_path)
    ours, pixels = _ours(), torch.randn(2, 3, 32, 32)
    load_into(ours, read_weights(tmp_path / "model.safetensors"), "model.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(ours(pixels), _features_of_theirs(_theirs(), pixels), rtol=1e-5, atol=1e-5)
