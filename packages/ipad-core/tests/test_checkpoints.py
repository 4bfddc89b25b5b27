"""Published checkpoints: generated state dicts of the released names, and the released forward passes written out."""

from __future__ import annotations

import pickle

import pytest
import torch
import torch.nn.functional as F
from timm import create_model as timm_model

from ipad_core.checkpoints import load_published
from ipad_core.layers import crop_regions

SIDE, COUNT, LATENT, EMBED = 64, 3, 6, 10
IMAGES = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
IDS, INDEX = torch.tensor([0, 2, 1]), torch.tensor([0, 0, 1])
MEAN, STD = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def random_state(shapes):
    generator = torch.Generator().manual_seed(5)
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def linear(name, out, inside, bias=True):
    return {f"{name}.weight": (out, inside)} | ({f"{name}.bias": (out,)} if bias else {})


@pytest.fixture(scope="module")
def resnet():
    """A ResNet-18 as the releases cut it, and its state; the map of its third stage has 256 channels."""
    torch.manual_seed(0)
    network = timm_model("resnet18").eval()
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(("layer4", "fc"))}
    return network, state


def feature_map(resnet, images=IMAGES):
    return resnet[0].forward_intermediates((images - MEAN) / STD, indices=[3], intermediates_only=True)[0]


def prefixed(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


ASEN = {
    **linear("mask_fc1", LATENT, COUNT, bias=False),
    **linear("mask_fc2", 256, COUNT, bias=False),
    **linear("fc1", 128, 512),
    **linear("fc2", 256, 128),
    **linear("feature_fc", EMBED, 256),
    "conv1.weight": (LATENT, 256, 1, 1),
    "conv1.bias": (LATENT,),
    "conv2.weight": (1, LATENT, 1, 1),
    "conv2.bias": (1,),
}
ASEN_V2 = {
    "attr_embedding.weight": (COUNT, LATENT),
    **linear("attr_transform1", LATENT, LATENT),
    **linear("attr_transform2", LATENT, LATENT),
    **linear("fc1", 128, 256 + LATENT),
    **linear("fc2", 256, 128),
    "conv1.weight": (LATENT, 256, 1, 1),
    "conv1.bias": (LATENT,),
    "img_bn1.weight": (LATENT,),
    "img_bn1.bias": (LATENT,),
    "img_bn1.running_mean": (LATENT,),
}
REGION = "choices.global.attnnet"
RPF_GLOBAL = {
    "choices.global.attrnet.attr_embedding.weight": (COUNT, 7),
    **linear(f"{REGION}.attr_transform1", LATENT, 7),
    f"{REGION}.conv.weight": (LATENT, 256, 1, 1),
    f"{REGION}.conv.bias": (LATENT,),
    **linear(f"{REGION}.feature_fc", EMBED, 256),
    f"{REGION}.x_layer_norm.weight": (256,),
    f"{REGION}.x_layer_norm.bias": (256,),
    f"{REGION}.a_layer_norm.weight": (7,),
    f"{REGION}.a_layer_norm.bias": (7,),
    f"{REGION}.mlp_layer_norm.weight": (EMBED,),
    f"{REGION}.mlp_layer_norm.bias": (EMBED,),
    **linear(f"{REGION}.mlp.fc1", EMBED // 2, EMBED),
    **linear(f"{REGION}.mlp.fc2", EMBED, EMBED // 2),
}
PATCH, WIDTH, CROP = "choices.local.basenet", 128, 32
RPF_LOCAL = {
    f"{PATCH}.embeddings.position_embeddings": (1, (CROP // 8) ** 2 + 1, WIDTH),
    f"{PATCH}.embeddings.cls_token": (1, 1, WIDTH),
    f"{PATCH}.embeddings.patch_embeddings.weight": (WIDTH, 3, 8, 8),
    f"{PATCH}.embeddings.patch_embeddings.bias": (WIDTH,),
    f"{PATCH}.type_embed": (1, 2, WIDTH),
    **linear(f"{PATCH}.attr2query", WIDTH, 7),
    f"{PATCH}.norm.weight": (EMBED,),
    f"{PATCH}.norm.bias": (EMBED,),
    f"{PATCH}.crossencoder.cross_attention_norm.weight": (WIDTH,),
    f"{PATCH}.crossencoder.cross_attention_norm.bias": (WIDTH,),
    **linear(f"{PATCH}.crossencoder.fc", EMBED, WIDTH),
    f"{PATCH}.crossencoder.ffn_norm.weight": (EMBED,),
    f"{PATCH}.crossencoder.ffn_norm.bias": (EMBED,),
    **linear(f"{PATCH}.crossencoder.ffn.fc1", EMBED // 2, EMBED),
    **linear(f"{PATCH}.crossencoder.ffn.fc2", EMBED, EMBED // 2),
}
for part in ("query", "key", "value", "out"):
    RPF_LOCAL |= linear(f"{PATCH}.crossencoder.cross_attn.{part}", WIDTH, WIDTH)
for block in (0, 1):
    start = f"{PATCH}.encoder.layer.{block}"
    for part in ("query", "key", "value", "out"):
        RPF_LOCAL |= linear(f"{start}.attn.{part}", WIDTH, WIDTH)
    RPF_LOCAL |= {**linear(f"{start}.ffn.fc1", 2 * WIDTH, WIDTH), **linear(f"{start}.ffn.fc2", WIDTH, 2 * WIDTH)}
    for norm in ("attention_norm", "ffn_norm"):
        RPF_LOCAL |= {f"{start}.{norm}.weight": (WIDTH,), f"{start}.{norm}.bias": (WIDTH,)}


def fc(state, name, x):
    return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def norm(state, name, x):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)


def conv(state, name, x):
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"])


def attend(x, weights):
    return (x * weights).flatten(2).sum(dim=2)


def asen_forward(state, x, ids):
    one_hot = F.one_hot(ids, COUNT).float()
    mask = fc(state, "mask_fc1", one_hot).tanh()[:, :, None, None]
    attention = conv(state, "conv2", mask * conv(state, "conv1", x).tanh()).tanh()
    v = attend(x, attention.flatten(2).softmax(dim=2).view_as(attention))
    gate = fc(
        state, "fc2", fc(state, "fc1", torch.cat([v, fc(state, "mask_fc2", one_hot).relu()], 1)).relu()
    ).sigmoid()
    return F.normalize(fc(state, "feature_fc", v * gate), dim=1)


def asen_v2_forward(state, x, ids):
    keys = F.batch_norm(
        conv(state, "conv1", x),
        state["img_bn1.running_mean"],
        state["img_bn1.running_var"],
        state["img_bn1.weight"],
        state["img_bn1.bias"],
    ).tanh()
    attribute = state["attr_embedding.weight"][ids]
    attention = (fc(state, "attr_transform1", attribute).tanh()[:, :, None, None] * keys).sum(
        1, keepdim=True
    ) / LATENT**0.5
    v = attend(x, attention.flatten(2).softmax(dim=2).view_as(attention))
    context = fc(state, "attr_transform2", attribute).relu()
    v = v * fc(state, "fc2", fc(state, "fc1", torch.cat([v, context], 1)).relu()).sigmoid()
    return F.normalize(fc(state, "feature_fc", v) if "feature_fc.weight" in state else v, dim=1)


def csn_forward(state, x, ids):
    embedded = fc(state, "embed_fc", x.mean(dim=(2, 3)))
    return F.normalize(embedded * state["masks.weight"][ids].relu(), dim=1)


def heads(state, start, queries, keys):
    """Multi-head attention with heads of 64, written out."""
    split = [
        fc(state, f"{start}.{part}", x).unflatten(2, (-1, 64)).transpose(1, 2)
        for part, x in (("query", queries), ("key", keys), ("value", keys))
    ]
    weights = (split[0] @ split[1].transpose(2, 3) / 8).softmax(dim=3)
    return fc(state, f"{start}.out", (weights @ split[2]).transpose(1, 2).flatten(2))


def rpf_region(state, x, ids):
    x = norm(state, f"{REGION}.x_layer_norm", x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    attribute = norm(state, f"{REGION}.a_layer_norm", state["choices.global.attrnet.attr_embedding.weight"][ids])
    query = fc(state, f"{REGION}.attr_transform1", attribute).tanh()[:, :, None, None]
    attention = (query * conv(state, f"{REGION}.conv", x).tanh()).sum(1, keepdim=True) / LATENT**0.5
    h = fc(state, f"{REGION}.feature_fc", attend(x, attention.flatten(2).softmax(dim=2).view_as(attention)))
    hidden = fc(state, f"{REGION}.mlp.fc1", norm(state, f"{REGION}.mlp_layer_norm", h)).relu()
    return norm(state, f"{REGION}.mlp_layer_norm", h + fc(state, f"{REGION}.mlp.fc2", hidden))


def rpf_patches(state, crops, ids):
    kernel, bias = (state[f"{PATCH}.embeddings.patch_embeddings.{name}"] for name in ("weight", "bias"))
    x = F.conv2d(crops, kernel, bias, stride=8).flatten(2).transpose(1, 2)
    x = torch.cat([state[f"{PATCH}.embeddings.cls_token"].expand(len(x), -1, -1), x], 1)
    x = x + state[f"{PATCH}.embeddings.position_embeddings"]
    for block in (0, 1):
        start = f"{PATCH}.encoder.layer.{block}"
        inside = norm(state, f"{start}.attention_norm", x)
        x = x + heads(state, f"{start}.attn", inside, inside)
        x = x + fc(
            state, f"{start}.ffn.fc2", F.gelu(fc(state, f"{start}.ffn.fc1", norm(state, f"{start}.ffn_norm", x)))
        )
    attribute = fc(state, f"{PATCH}.attr2query", state["choices.global.attrnet.attr_embedding.weight"][ids])[:, None]
    cross, types = f"{PATCH}.crossencoder", state[f"{PATCH}.type_embed"][0]
    patches = norm(state, f"{cross}.cross_attention_norm", (x + types[1])[:, 1:])
    query = norm(state, f"{cross}.cross_attention_norm", attribute + types[0])
    h = fc(state, f"{cross}.fc", heads(state, f"{cross}.cross_attn", query, patches)[:, 0])
    hidden = F.gelu(fc(state, f"{cross}.ffn.fc1", norm(state, f"{cross}.ffn_norm", h)))
    return norm(state, f"{PATCH}.norm", h + fc(state, f"{cross}.ffn.fc2", hidden))


@pytest.fixture
def states(resnet):
    """Kind -> generated state dict, as released."""
    v2 = random_state(ASEN_V2) | {
        "img_bn1.running_var": torch.rand(LATENT) + 0.5,
        "img_bn1.num_batches_tracked": torch.tensor(1),
    }
    backbone = prefixed("backbonenet.", resnet[1])
    csn = random_state({"masks.weight": (COUNT, EMBED), **linear("embed_fc", EMBED, 256)})
    return {
        "asen": random_state(ASEN) | backbone,
        "asen_v2": v2 | backbone,
        "asen_v2 with embedding": v2 | random_state(linear("feature_fc", EMBED, 256)) | backbone,
        "csn": csn | prefixed("embeddingnet.", resnet[1]),
        "rpf": random_state(RPF_GLOBAL | RPF_LOCAL) | prefixed("choices.global.basenet.", resnet[1]),
        "rpf stage 1": random_state(RPF_GLOBAL) | prefixed("choices.global.basenet.", resnet[1]),
    }


@pytest.fixture
def save(tmp_path):
    def write(state, wrapped=False):
        path = tmp_path / "model_best.pth.tar"
        state = prefixed("embeddingnet.", state) if wrapped else state
        torch.save({"epoch": 3, "state_dict": state, "prec": 0.5}, path)
        return path

    return write


FORWARDS = {
    "asen": asen_forward,
    "asen_v2": asen_v2_forward,
    "asen_v2 with embedding": asen_v2_forward,
    "csn": csn_forward,
}


@pytest.mark.parametrize("wrapped", [True, False], ids=["triplet network", "bare"])
@pytest.mark.parametrize("kind", FORWARDS)
def test_equals_the_released_forward_pass(kind, wrapped, states, save, resnet):
    model = load_published(save(states[kind], wrapped))
    model.image_size = SIDE
    assert model.architecture == kind.split()[0]
    assert model.options["num_attributes"] == COUNT
    with torch.no_grad():
        expected = FORWARDS[kind](states[kind], feature_map(resnet)[INDEX], IDS)
        torch.testing.assert_close(model(IMAGES, IDS, INDEX).embedding, expected, atol=1e-5, rtol=1e-4)


def test_rpf_equals_the_released_forward_pass(states, save, resnet):
    model = load_published(save(states["rpf"]), crop_size=CROP)
    model.image_size = SIDE
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.25, 0.25, 0.75, 0.75], [0.0, 0.5, 0.5, 1.0]])
    with torch.no_grad():
        output = model(IMAGES, IDS, INDEX, boxes=boxes)
        region = rpf_region(states["rpf"], feature_map(resnet)[INDEX], IDS)
        torch.testing.assert_close(output.spatial, region, atol=1e-4, rtol=1e-4)
        crops = crop_regions((IMAGES - MEAN) / STD, boxes, INDEX, CROP)
        torch.testing.assert_close(output.semantic, rpf_patches(states["rpf"], crops, IDS), atol=1e-4, rtol=1e-4)
    parts = 0.4**0.5 * F.normalize(output.spatial, dim=1), 0.6**0.5 * F.normalize(output.semantic, dim=1)
    torch.testing.assert_close(output.embedding, torch.cat(parts, dim=1))


def test_rpf_of_the_first_stage_has_one_branch(states, save, resnet):
    model = load_published(save(states["rpf stage 1"]))
    model.image_size = SIDE
    assert model.semantic is None
    with torch.no_grad():
        expected = F.normalize(rpf_region(states["rpf stage 1"], feature_map(resnet)[INDEX], IDS), dim=1)
        torch.testing.assert_close(model(IMAGES, IDS, INDEX).embedding, expected, atol=1e-5, rtol=1e-4)


def test_what_it_started_from_is_recorded(states, save):
    record = load_published(save(states["csn"])).weights["trunk"]
    assert (record["source"], record["via"]) == ("file model_best.pth.tar", "csn")
    assert len(record["sha256"]) == 64


def test_what_the_release_never_reads_is_named(states, save):
    state = states["asen_v2"] | {
        "backbonenet.layer4.0.conv1.weight": torch.zeros(1),
        "backbonenet.fc.bias": torch.zeros(1),
    }
    with pytest.warns(
        UserWarning, match=r"never read by the network: trunk\.features\.fc\.bias, trunk\.features\.layer4"
    ):
        load_published(save(state))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc2.bias": None}, r"is no whole asen: missing: attention\.excite\.bias"),
        ({"surplus.weight": torch.zeros(2)}, r"is no whole asen: unknown: surplus\.weight"),
        ({"fc2.bias": torch.zeros(3)}, r"other shapes: attention\.excite\.bias \(3,\) instead of \(256,\)"),
        ({"feature_fc.weight": None}, r"is not whole: it has no feature_fc\.weight"),
        (
            {"mask_fc1.weight": None},
            "is no published checkpoint of asen, asen_v2, csn, rpf: it has none of mask_fc1.weight",
        ),
    ],
)
def test_checkpoints_that_are_not_whole(change, message, states, save):
    state = {name: tensor for name, tensor in (states["asen"] | change).items() if tensor is not None}
    with pytest.raises(ValueError, match=message):
        load_published(save(state))


def test_another_backbone(states, save):
    state = {name: tensor for name, tensor in states["csn"].items() if "layer3.1." not in name}
    with pytest.raises(
        ValueError, match=r"holds no ResNet-18, 34, 50 or 101 at embeddingnet\.: its layer3 has 1 blocks"
    ):
        load_published(save(state))


@pytest.mark.parametrize(
    ("across", "crop_size", "message"),
    [
        (4, 224, r"16 positions of patches of 8 px; side by side on crops of 224 px there would be 784\. They lie side by "
            r"side on crops of 32 px \(give crop_size=32 if it was trained on such\)$"),
        (7, 32, r"49 positions .* would be 16\. They lie side by side on crops of 56 px \(give crop_size=56 if it was "
            r"trained on such\), or overlap on crops of 32 px, one every 4 px, which is not supported"),
    ],
)  # fmt: skip
def test_patches_that_do_not_fill_the_crops_are_refused(across, crop_size, message, states, save):
    positions = {f"{PATCH}.embeddings.position_embeddings": torch.zeros(1, across**2 + 1, WIDTH)}
    with pytest.raises(ValueError, match=message):
        load_published(save(states["rpf"] | positions), crop_size=crop_size)


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


def test_python_objects_are_refused(tmp_path):
    (tmp_path / "evil.pth.tar").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="weights: "):
        load_published(tmp_path / "evil.pth.tar")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_published(tmp_path / "nothing.pth.tar")
