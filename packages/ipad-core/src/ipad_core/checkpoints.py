"""Checkpoints that earlier projects published, as networks of ours: ASEN (both versions), CSN in ASEN's release, and RPF."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ipad_core._registry import create_model
from ipad_core.models.embedder import AttributeEmbedder
from ipad_core.weights.files import read_tensors, sha256_of

Tensors = dict[str, Tensor]
Names = dict[str, str]  # start of a published name -> start of ours; the longest that fits counts
_SHOWN = 5

_ASEN: Names = {
    "backbonenet.": "trunk.features.",
    "mask_fc1.": "attention.query.",
    "mask_fc2.": "attention.context.",
    "conv1.": "attention.key.",
    "conv2.": "attention.score.",
    "fc1.": "attention.squeeze.",
    "fc2.": "attention.excite.",
    "feature_fc.": "project.",
}
_ASEN_V2: Names = {
    "backbonenet.": "trunk.features.",
    "attr_embedding.": "attention.table.",
    "attr_transform1.": "attention.query.",
    "conv1.": "attention.key.",
    "img_bn1.": "attention.key_norm.",
    "attr_transform2.": "attention.context.",
    "fc1.": "attention.squeeze.",
    "fc2.": "attention.excite.",
    "feature_fc.": "project.",
}
_CSN: Names = {"embeddingnet.": "trunk.features.", "embed_fc.": "project.", "masks.": "mask.table."}
_REGION, _PATCH, _CROSS = "choices.global.attnnet.", "choices.local.basenet.", "choices.local.basenet.crossencoder."
_RPF: Names = {
    "choices.global.attrnet.attr_embedding.": "spatial.attribute.",
    "choices.global.basenet.": "spatial.trunk.features.",
    _REGION + "x_layer_norm.": "spatial.map_norm.",
    _REGION + "a_layer_norm.": "spatial.attribute_norm.",
    _REGION + "conv.": "spatial.attention.map_projection.",
    _REGION + "attr_transform1.": "spatial.attention.attribute_projection.",
    _REGION + "feature_fc.": "spatial.project.",
    _REGION + "mlp_layer_norm.": "spatial.mlp.norm.",
    _REGION + "mlp.fc1.": "spatial.mlp.mlp.0.",
    _REGION + "mlp.fc2.": "spatial.mlp.mlp.3.",
    _PATCH + "embeddings.patch_embeddings.": "semantic.tokens.trunk.features.patch_embed.proj.",
    _PATCH + "embeddings.position_embeddings": "semantic.tokens.trunk.features.pos_embed",
    _PATCH + "embeddings.cls_token": "semantic.tokens.trunk.features.cls_token",
    _PATCH + "encoder.layer.": "semantic.tokens.trunk.features.blocks.",
    _PATCH + "attr2query.": "semantic.attention.attribute.",
    _PATCH + "type_embed": "semantic.attention.types",
    _PATCH + "norm.": "semantic.attention.mlp.outer_norm.",
    _CROSS + "cross_attention_norm.": "semantic.attention.norm.",
    _CROSS + "cross_attn.": "semantic.attention.",
    _CROSS + "fc.": "semantic.attention.project.",
    _CROSS + "ffn_norm.": "semantic.attention.mlp.norm.",
    _CROSS + "ffn.fc1.": "semantic.attention.mlp.mlp.0.",
    _CROSS + "ffn.fc2.": "semantic.attention.mlp.mlp.3.",
}
_BLOCK = {".attention_norm.": ".norm1.", ".ffn_norm.": ".norm2.", ".ffn.": ".mlp.", ".attn.out.": ".attn.proj."}
_NEVER_READ = ("layer4.", "fc.", "num_batches_tracked")  # of the ResNet: its releases build more than they use


def load_published(path: str | Path, crop_size: int = 224) -> AttributeEmbedder:
    """A network with the weights of a checkpoint (``.pth.tar``) of ASEN, ASEN_V2, CSN as in ASEN's release, or RPF.

    Which one it is follows from the names of its tensors, and the sizes from their shapes. The answer equals the original's
    on the same normalized images; the releases resize photos to 224 px on the shorter side and cut the middle. Nothing is
    unpickled. Tensors that the release saves and never reads (the ResNet's fourth stage and classifier) are named in a
    warning.

    A checkpoint of RPF does not hold the weight of its fusion. It is 0.4 here, as in the release's defaults and its
    configuration of DeepFashion; those of FashionAI and DARN say 0.3: set ``model.beta = 0.3``. The release rounds a crop
    to whole pixels of the 224 px map, and we do not; for equal crops the answers are equal.

    Args:
        path: The file.
        crop_size: Side of the crops that a patch branch of RPF was trained on, px; the release has 224. A file does not
            say it, nor whether the patches overlapped, as one of the release's options makes them: 18 x 18 positions of
            16 px are crops of 288 px, or of 224 px with a patch every 12 px. Overlapping patches are refused.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds Python objects; it is none of the four; tensors are missing, have another
            shape, or are not known (the message lists them); its patches do not fill crops of ``crop_size`` side by side.
    """
    path = Path(path)
    tensors = _without_wrapper(read_tensors(path))
    kind = _recognize(tensors, path)
    names, build = _KINDS[kind]
    model = build(tensors, path, **({"crop_size": crop_size} if kind == "rpf" else {}))
    renamed, left = _renamed(tensors, names)
    own = model.state_dict()
    if kind == "asen_v2" and "project.weight" not in renamed:  # that release ends with the gated features
        renamed |= {"project.weight": torch.eye(len(own["project.bias"])), "project.bias": own["project.bias"] * 0}
    extra = sorted(left + [name for name in renamed if name not in own and not _never_read(name)])
    unread = sorted(name for name in renamed if name not in own and _never_read(name))
    missing = [name for name in own if name not in renamed and not name.endswith("num_batches_tracked")]
    shapes = [
        f"{name} {tuple(renamed[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in renamed and own[name].shape != renamed[name].shape
    ]
    if extra or missing or shapes:
        told = (("missing", missing), ("unknown", extra), ("other shapes", shapes))
        raise ValueError(f"{path} is no whole {kind}: " + "; ".join(_listed(*each) for each in told if each[1]))
    if unread:
        warnings.warn(f"{path.name}: {_listed('never read by the network', unread)}", stacklevel=2)
    model.load_state_dict({name: renamed.get(name, tensor) for name, tensor in own.items()})
    for trunk in model.trunks().values():
        trunk.started_from |= {"source": f"file {path.name}", "sha256": sha256_of(path), "via": kind}
    return model.eval()


def _without_wrapper(tensors: Tensors) -> Tensors:
    """Without the ``embeddingnet.`` that ASEN's triplet network puts before everything."""
    prefix = "embeddingnet."
    if all(name.startswith(prefix) for name in tensors):
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _recognize(tensors: Tensors, path: Path) -> str:
    signs = {
        "asen": "mask_fc1.weight",
        "asen_v2": "attr_transform2.weight",
        "csn": "masks.weight",
        "rpf": "choices.global.attrnet.attr_embedding.weight",
    }
    for kind, sign in signs.items():
        if sign in tensors:
            return kind
    raise ValueError(
        f"{path} is no published checkpoint of {', '.join(signs)}: it has none of {', '.join(signs.values())}; its names "
        f"begin with {', '.join(list(tensors)[:_SHOWN])}"
    )


def _renamed(tensors: Tensors, names: Names) -> tuple[Tensors, list[str]]:
    """Tensors under our names and in our shapes, and the names that are not known."""
    renamed: Tensors = {}
    left = []
    for name, tensor in tensors.items():
        starts = [start for start in names if name.startswith(start)]
        if not starts:
            left.append(name)
            continue
        start = max(starts, key=len)
        ours = names[start] + name.removeprefix(start)
        if ".blocks." in ours:
            for theirs, mine in _BLOCK.items():
                ours = ours.replace(theirs, mine)
        elif ours in ("attention.query.weight", "attention.context.weight") and "mask_fc" in name:
            tensor = tensor.T  # a linear layer of a one-hot vector is a table
        elif ours == "semantic.attention.types":
            tensor = tensor[0]
        elif tensor.ndim == 4 and tensor.shape[2:] == (1, 1) and ".features." not in ours:
            tensor = tensor[:, :, 0, 0]  # a 1x1 convolution is a linear layer
        renamed[ours] = tensor
    for name in [name for name in renamed if ".blocks." in name and ".attn.query." in name]:
        parts = [renamed.pop(name.replace(".query.", f".{part}."), None) for part in ("query", "key", "value")]
        if all(part is not None for part in parts):
            renamed[name.replace(".query.", ".qkv.")] = torch.cat(parts)
    return renamed, left


def _never_read(name: str) -> bool:
    return "trunk.features." in name and name.split("trunk.features.")[1].startswith(_NEVER_READ)


def _listed(title: str, names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{title}: {', '.join(names[:_SHOWN])}{more}"


# -- sizes from shapes -----------------------------------------------------------------------------------------------


def _shape(tensors: Tensors, name: str, path: Path) -> tuple[int, ...]:
    if name not in tensors:
        raise ValueError(f"{path} is not whole: it has no {name}")
    return tuple(tensors[name].shape)


def _resnet(tensors: Tensors, prefix: str, path: Path) -> dict[str, Any]:
    """timm's name of the ResNet whose tensors begin with a prefix."""
    blocks = {name.removeprefix(f"{prefix}layer3.").split(".")[0] for name in tensors if f"{prefix}layer3." in name}
    wide = f"{prefix}layer1.0.conv3.weight" in tensors
    known = {(True, 6): "resnet50", (True, 23): "resnet101", (False, 2): "resnet18", (False, 6): "resnet34"}
    if (wide, len(blocks)) not in known:
        raise ValueError(f"{path} holds no ResNet-18, 34, 50 or 101 at {prefix}: its layer3 has {len(blocks)} blocks")
    return {"name": known[wide, len(blocks)], "stage": 3}


def _asen(tensors: Tensors, path: Path) -> AttributeEmbedder:
    latent, dim = _shape(tensors, "conv1.weight", path)[:2]
    return create_model(
        "asen",
        num_attributes=_shape(tensors, "mask_fc1.weight", path)[1],
        latent_dim=latent,
        embed_dim=_shape(tensors, "feature_fc.weight", path)[0],
        reduction=dim // _shape(tensors, "fc1.weight", path)[0],
        trunk=_resnet(tensors, "backbonenet.", path),
    )


def _asen_v2(tensors: Tensors, path: Path) -> AttributeEmbedder:
    count, latent = _shape(tensors, "attr_embedding.weight", path)
    dim = _shape(tensors, "conv1.weight", path)[1]
    embed_dim = tensors["feature_fc.weight"].shape[0] if "feature_fc.weight" in tensors else dim
    return create_model(
        "asen_v2",
        num_attributes=count,
        latent_dim=latent,
        embed_dim=embed_dim,
        reduction=dim // _shape(tensors, "fc1.weight", path)[0],
        trunk=_resnet(tensors, "backbonenet.", path),
    )


def _csn(tensors: Tensors, path: Path) -> AttributeEmbedder:
    count, embed_dim = _shape(tensors, "masks.weight", path)
    trunk = _resnet(tensors, "embeddingnet.", path)
    return create_model("csn", num_attributes=count, embed_dim=embed_dim, trunk=trunk)


def _rpf(tensors: Tensors, path: Path, crop_size: int) -> AttributeEmbedder:
    count, attribute_dim = _shape(tensors, "choices.global.attrnet.attr_embedding.weight", path)
    embed_dim = _shape(tensors, f"{_REGION}feature_fc.weight", path)[0]
    options: dict[str, Any] = {"semantic": False}
    if any(name.startswith(_PATCH) for name in tensors):
        width, _, patch, _ = _shape(tensors, f"{_PATCH}embeddings.patch_embeddings.weight", path)
        _check_patches(_shape(tensors, f"{_PATCH}embeddings.position_embeddings", path)[1] - 1, patch, crop_size, path)
        blocks = {name.split(".encoder.layer.")[1].split(".")[0] for name in tensors if ".encoder.layer." in name}
        hidden = _shape(tensors, f"{_PATCH}encoder.layer.0.ffn.fc1.weight", path)[0]
        vit = {
            "embed_dim": width,
            "depth": len(blocks),
            "num_heads": max(1, width // 64),
            "mlp_ratio": hidden / width,
            "patch_size": patch,
            "img_size": crop_size,
            "final_norm": False,
            # The release normalizes crops as it does images.
            "pretrained_cfg_overlay": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        }
        options = {
            "semantic_trunk": {"name": "vit_base_patch16_224", "options": vit},
            "semantic_heads": max(1, width // 64),
            "crop_size": crop_size,
        }
    return create_model(
        "rpf",
        num_attributes=count,
        attribute_dim=attribute_dim,
        embed_dim=embed_dim,
        latent_dim=_shape(tensors, f"{_REGION}conv.weight", path)[0],
        reduction=embed_dim // _shape(tensors, f"{_REGION}mlp.fc1.weight", path)[0],
        trunk=_resnet(tensors, "choices.global.basenet.", path),
        **options,
    )


def _check_patches(positions: int, patch: int, crop_size: int, path: Path) -> None:
    """Raise a ValueError if patches that lie side by side on a crop are not as many as the positions."""
    across = math.isqrt(positions)
    if across**2 == positions and across * patch == crop_size:
        return
    steps = [step for step in range(1, patch) if (crop_size - patch) // step + 1 == across]
    overlap = (
        f", or overlap on crops of {crop_size} px, one every {max(steps)} px, which is not supported" if steps else ""
    )
    raise ValueError(
        f"{path} has {positions} positions of patches of {patch} px; side by side on crops of {crop_size} px there would be "
        f"{(crop_size // patch) ** 2}. They lie side by side on crops of {across * patch} px (give "
        f"crop_size={across * patch} if it was trained on such){overlap}"
    )


_KINDS: dict[str, tuple[Names, Callable[..., AttributeEmbedder]]] = {
    "asen": (_ASEN, _asen),
    "asen_v2": (_ASEN_V2, _asen_v2),
    "csn": (_CSN, _csn),
    "rpf": (_RPF, _rpf),
}
