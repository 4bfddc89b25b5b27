from __future__ import annotations

import pytest
import timm
import torch

from ipad_core.backbones.stages import choose_stages, is_isotropic, leading_modules, stages_of


def network(name, **options):
    with torch.device("meta"):
        return timm.create_model(name, **options)


@pytest.mark.parametrize(
    ("name", "stage", "stride"),
    [
        ("resnet50", 3, 16),
        ("tf_efficientnet_lite0", 3, 16),
        ("convnext_tiny", 2, 16),
        ("swin_tiny_patch4_window7_224", 2, 16),
        ("vit_base_patch16_224", 11, 16),
        ("vit_small_patch14_dinov2", 11, 14),
        ("vit_base_patch32_224", 11, 32),
        ("vit_base_patch8_224", 11, 8),
    ],
)
def test_default_is_the_last_block_or_the_deepest_stage_of_stride_16(name, stage, stride):
    stages = stages_of(network(name))
    assert choose_stages(name, stages, None) == [stage]
    assert stages[stage]["reduction"] == stride
    assert is_isotropic(stages) == name.startswith("vit")


def test_output_stride_counts():
    assert choose_stages("resnet10t", stages_of(network("resnet10t", output_stride=8)), None) == [4]


def test_one_and_several_in_the_order_given():
    stages = stages_of(network("resnet10t"))
    assert choose_stages("resnet10t", stages, 0) == [0]
    assert choose_stages("resnet10t", stages, (4, 2)) == [4, 2]


@pytest.mark.parametrize("stage", [5, -1, [3, 5], [], [3, 3], True, "3"])
def test_stages_that_are_not_there(stage):
    with pytest.raises(
        ValueError, match=r"stage of the trunk 'resnet10t' must be within \[0, 4\] or 'last', or a list"
    ):
        choose_stages("resnet10t", stages_of(network("resnet10t")), stage)


@pytest.mark.parametrize(
    ("name", "count", "inside", "outside"),
    [
        ("resnet10t", 1, "conv1.6", "layer1"),
        ("resnet10t", 2, "layer1.0.bn1", "layer2"),
        ("tf_efficientnet_lite0", 1, "blocks.0.0.bn2", "blocks.1"),
        ("tf_efficientnet_lite0", 4, "blocks.3.0", "blocks.5"),
        ("convnext_tiny", 1, "stages.0.blocks.0", "stages.1"),
        ("vit_base_patch16_224", 2, "blocks.1.mlp.fc2", "blocks.2"),
    ],
)
def test_leading_modules_hold_the_stem_and_no_later_stage(name, count, inside, outside):
    net = network(name)
    leading = leading_modules(net, stages_of(net), count)
    names = {name for name, module in net.named_modules() if any(module is other for other in leading)}
    assert inside in names
    assert any(name.startswith(("conv1", "conv_stem", "stem", "patch_embed")) for name in names)
    assert not any(name == outside or name.startswith(f"{outside}.") for name in names)
    assert "" not in names
    assert "blocks" not in names
    assert "stages" not in names


def test_a_stage_whose_module_timm_does_not_name():
    net = network("tresnet_m")
    with pytest.raises(ValueError, match="timm does not say which modules end stage 0"):
        leading_modules(net, stages_of(net), 1)
