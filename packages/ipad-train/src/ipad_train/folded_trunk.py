"""A frozen trunk with its batch norms folded into the convolutions before them: the same maps, for less work."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ipad_core.backbones import Trunk

_TOLERANCE = 1e-4  # of the largest value of a map


@torch.no_grad()
def folded(trunk: Trunk) -> Trunk:
    """A copy of a trunk in evaluation mode whose batch norms are part of the convolutions before them.

    Which convolution a norm reads is seen in a pass over a random image. The copy must answer what the trunk answers, to
    1e-4 of a map's largest value; where it does not (something else reads the convolution as well), the trunk itself comes
    back.

    Args:
        trunk: It stays as it is.
    """
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(trunk.mean.device)
    copied = copy.deepcopy(trunk).eval()
    expected = _maps(copied, image)
    pairs = _pairs(copied, image)
    if not pairs or expected is None:
        return trunk
    for convolution, norm_name in pairs:
        parent_name, _, own = norm_name.rpartition(".")
        parent, norm = copied.get_submodule(parent_name), copied.get_submodule(norm_name)
        _fold(convolution, norm)
        rest = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if part is not None]
        setattr(parent, own, nn.Sequential(*rest) if rest else nn.Identity())
    found = _maps(copied, image)
    close = all(
        (one - other).abs().max() <= _TOLERANCE * other.abs().max() for one, other in zip(found, expected, strict=True)
    )
    return copied if close else trunk


def _maps(trunk: Trunk, image: Tensor) -> list[Tensor] | None:
    """Maps of an image; None for a network that takes no image of this size, such as a transformer."""
    try:
        return [stage.clone() for stage in trunk.stage_maps(image)]
    except (RuntimeError, AssertionError):
        return None


def _pairs(trunk: Trunk, image: Tensor) -> list[tuple[nn.Conv2d, str]]:
    """Convolutions that run once, and the name of the batch norm that reads what they answer."""
    answers: list[tuple[Tensor, nn.Conv2d]] = []  # the tensors are held, so that their identity means something
    pairs: list[tuple[nn.Conv2d, str]] = []

    def after_convolution(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        answers.append((output, module))

    def before_norm(name: str, inputs: tuple[Tensor, ...]) -> None:
        pairs.extend((convolution, name) for output, convolution in answers if output is inputs[0])

    hooks = []
    for name, module in trunk.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after_convolution))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(lambda _, inputs, name=name: before_norm(name, inputs)))
    if not hooks or _maps(trunk, image) is None:
        pairs = []
    for hook in hooks:
        hook.remove()
    runs = [convolution for _, convolution in answers]
    return [(convolution, name) for convolution, name in pairs if runs.count(convolution) == 1]


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    scale = torch.rsqrt(norm.running_var + norm.eps)
    shift = -norm.running_mean * scale
    if norm.affine:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    bias = shift if convolution.bias is None else convolution.bias * scale + shift
    convolution.weight = nn.Parameter(convolution.weight * scale[:, None, None, None], requires_grad=False)
    convolution.bias = nn.Parameter(bias, requires_grad=False)
