from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from ipad_core.backbones import HybridTokens, Trunk, ViTTokens

SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2}
NARROW = {"channels": [8, 8, 16, 16], "stem_width": 8}


def test_patch_tokens_without_the_class_token():
    tokens = ViTTokens("vit_tiny_patch16_224", 48, **SMALL).eval()
    images = torch.rand(2, 3, 48, 48)
    answer = tokens(images)
    assert answer.shape == (2, 9, 32)
    assert tokens.num_features == 32
    assert torch.equal(answer, tokens.vit.forward_features(images)[:, 1:])


def test_every_prefix_token_goes():
    assert ViTTokens("vit_small_patch16_dinov3", 48, **SMALL)(torch.rand(1, 3, 48, 48)).shape == (1, 9, 32)


def test_pretrained_from_a_local_file_resizes_position_embeddings(tmp_path):
    source = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=0, **SMALL)
    save_file(source.state_dict(), tmp_path / "vit.safetensors")
    overlay = {"file": str(tmp_path / "vit.safetensors"), "num_classes": 0}
    tokens = ViTTokens("vit_tiny_patch16_224", 32, pretrained=True, pretrained_cfg_overlay=overlay, **SMALL)
    assert torch.equal(tokens.vit.blocks[1].attn.qkv.weight, source.blocks[1].attn.qkv.weight)
    assert tokens.vit.pos_embed.shape == (1, 5, 32)


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224"])
def test_other_networks_are_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' (cannot be built as a|is no) vision transformer"):
        ViTTokens(name, 224)


def test_unknown_network():
    with pytest.raises(ValueError, match="timm knows no network 'vit_bse"):
        ViTTokens("vit_bse_patch16_224", 224)


@pytest.mark.parametrize("size", [48, 64])
def test_hybrid_reads_the_cells_of_its_stem(size):
    stem = Trunk("resnet10t", 3, **NARROW)
    tokens = HybridTokens(stem, size, **SMALL)
    assert tokens(torch.rand(2, 3, size, size)).shape == (2, (size // 16) ** 2, 32)
    assert tokens.stem is stem
    assert torch.equal(tokens.mean, stem.mean)
