"""What each branch of a network costs, beside section 4.5 of the paper, and why ours differs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from ipad_core import IPAD, AttributeEmbedder
from ipad_core.backbones import build_trunk
from ipad_train.costs import Costs, model_costs, time_calls
from ipad_train.result_tables import as_markdown
from ipad_train.trained_runs import device_name

PAPER = Costs(142_000_000, 3_440_000_000, 11.0)  # section 4.5; one RTX 3090
_IMAGENET_CLASSES = 1_000
_VIT_CLASSES = 21_843  # of the ImageNet-21k classifier of Google's original ViT-B/16


class Part(NamedTuple):
    """A row of an analysis; what does not apply to a part is None."""

    name: str
    parameters: int | None
    multiply_adds: int | None
    milliseconds: float | None


def analyze(model: AttributeEmbedder, image_side: int, repeats: int = 10) -> list[Part]:
    """Costs of a network's parts, and of the whole, for one image and one attribute.

    The second branch's multiply-adds and milliseconds are those of the whole less those of the first branch, which it needs
    for its crop.

    Args:
        model: Any network.
        image_side: Side of the image that it is given, px.
        repeats: How often each pass is timed.
    """
    whole = model_costs(model, image_side, repeats)
    parts = []
    if len(model.branches) == 2:
        first = model_costs(model, image_side, repeats, part=model.spatial, branches="spatial")
        trunk = _trunk_costs(model, image_side, repeats)
        parts = [
            Part("first branch (IP-SP)", *first),
            Part("  of it the trunk", *trunk),
            Part("  of it attention and head", *(a - b for a, b in zip(first, trunk, strict=True))),
            Part("second branch (IP-SE)", *(a - b for a, b in zip(whole, first, strict=True))),
        ]
        second = model.semantic.crop_trunk
        parts.append(Part("  of it its trunk", _count(second), None, None))
    return [*parts, Part("whole network", *whole)]


def explain(model: AttributeEmbedder, parts: list[Part]) -> list[str]:
    """Why the numbers of the paper's sizes are not the paper's; nothing for other networks."""
    if not isinstance(model, IPAD) or model.spatial is None or model.semantic is None:
        return []
    trunk, tokens = (network["network"] for network in model.weights.values())
    if (trunk, tokens) != ("resnet50", "vit_base_patch16_224"):
        return []
    whole, first, second = parts[-1], parts[0], parts[3]
    with torch.device("meta"):
        fourth = build_trunk({"name": "resnet50", "stage": 4}, model.image_size)
    unread = _count(fourth) - _count(model.trunk) + _IMAGENET_CLASSES * (fourth.num_features + 1)
    dim = model.semantic.crop_trunk.num_features
    classifier = _VIT_CLASSES * (dim + 1) + dim * (dim + 1)  # a linear layer behind a hidden one
    total = whole.parameters + unread + classifier
    return [
        f"Parameters: ours are {whole.parameters / 1e6:.1f} M. The paper says 142 M and not what it counts. Released "
        f"networks bring parts that nothing reads: the fourth stage and classifier of ResNet-50 ({unread / 1e6:.1f} M) and "
        f"the ImageNet-21k classifier of ViT-B/16 with its hidden layer ({classifier / 1e6:.1f} M). With them it is "
        f"{total / 1e6:.1f} M; we build neither.",
        f"FLOPs: {first.multiply_adds / 1e9:.2f} G multiply-adds is the first branch alone, close to the paper's 3.44 G. "
        f"The second adds {second.multiply_adds / 1e9:.1f} G, as any ViT-B/16 does on 224 px, so the paper's figure cannot "
        "hold both branches. Counting a multiply-add as two doubles ours.",
        "Time: the paper's 11 ms are of an RTX 3090; compare times on one device only.",
    ]


def analysis_table(model: AttributeEmbedder, parts: list[Part], device: torch.device) -> str:
    """The parts and the paper's numbers as a Markdown table."""
    header = ["one image, one attribute", "parameters, M", "G multiply-adds", f"ms ({device_name(device)})"]
    rows = [[part.name, *_texts(part)] for part in parts]
    if explain(model, parts):
        rows.append(["the paper, section 4.5 (RTX 3090)", *_texts(Part("", *PAPER))])
    return as_markdown(header, rows)


def _texts(part: Part) -> Iterator[str]:
    yield "" if part.parameters is None else f"{part.parameters / 1e6:.2f}"
    yield "" if part.multiply_adds is None else f"{part.multiply_adds / 1e9:.3f}"
    yield "" if part.milliseconds is None else f"{part.milliseconds:.1f}"


def _trunk_costs(model: Any, image_side: int, repeats: int) -> Costs:
    from torch.utils.flop_counter import FlopCounterMode

    device = next(model.parameters()).device
    image = torch.zeros(1, 3, image_side, image_side, dtype=torch.uint8, device=device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            model.feature_map(image)
        milliseconds = time_calls(lambda: model.feature_map(image), device, repeats)
    model.train(was_training)
    return Costs(_count(model.trunk), counter.get_total_flops() // 2, milliseconds)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
