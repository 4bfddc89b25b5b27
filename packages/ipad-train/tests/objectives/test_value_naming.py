from __future__ import annotations

import math

import pytest
import torch

from ipad_core.losses import BatchAllTripletLoss
from ipad_train.objectives import ValueNaming

OWNERS = torch.tensor([0, 0, 0, 1, 1])
ATTRIBUTES = torch.tensor([0, 0, 1, 1, 0, 0])
VALUES = torch.tensor([0, 1, 3, 4, 2, 0])


def test_against_a_loop_over_the_values_of_the_asked_attribute():
    torch.manual_seed(0)
    naming, embeddings = ValueNaming(4, OWNERS).double(), torch.randn(6, 4, dtype=torch.float64)
    terms = []
    weight, bias = naming.read_out.weight.detach(), naming.read_out.bias.detach()
    for embedding, attribute, value in zip(embeddings, ATTRIBUTES, VALUES, strict=True):
        scores = {v: float(weight[v] @ embedding + bias[v]) for v in range(5) if OWNERS[v] == attribute}
        terms.append(math.log(sum(math.exp(score) for score in scores.values())) - scores[int(value)])
    assert naming(embeddings, ATTRIBUTES, VALUES).item() == pytest.approx(sum(terms) / 6, rel=1e-12)


def test_an_untrained_layer_of_zeros_pays_the_logarithm_of_the_number_of_values():
    """Hand-worked: four entries choose among three values, two among two."""
    naming = ValueNaming(4, OWNERS)
    torch.nn.init.zeros_(naming.read_out.weight), torch.nn.init.zeros_(naming.read_out.bias)
    expected = (4 * math.log(3) + 2 * math.log(2)) / 6
    assert naming(torch.randn(6, 4), ATTRIBUTES, VALUES).item() == pytest.approx(expected)


def test_averaged_over_values_and_attributes_against_loops():
    torch.manual_seed(0)
    naming, embeddings = ValueNaming(4, OWNERS, "attributes").double(), torch.randn(6, 4, dtype=torch.float64)
    single = ValueNaming(4, OWNERS).double()
    single.load_state_dict(naming.state_dict())
    by_attribute = []
    for attribute in (0, 1):
        by_value = []
        for value in VALUES[attribute == ATTRIBUTES].unique():
            chosen = [i for i in range(6) if VALUES[i] == value]
            terms = [single(embeddings[i : i + 1], ATTRIBUTES[i : i + 1], VALUES[i : i + 1]).item() for i in chosen]
            by_value.append(sum(terms) / len(terms))
        by_attribute.append(sum(by_value) / len(by_value))
    expected = sum(by_attribute) / len(by_attribute)
    assert naming(embeddings, ATTRIBUTES, VALUES).item() == pytest.approx(expected, rel=1e-12)


def test_averaged_over_values_and_attributes_where_the_batch_lacks_some():
    """Hand-worked: zeros pay log 3 for the one attribute that is there, however many entries each value has."""
    naming = ValueNaming(4, OWNERS, "attributes")
    torch.nn.init.zeros_(naming.read_out.weight), torch.nn.init.zeros_(naming.read_out.bias)
    loss = naming(torch.randn(4, 4), torch.zeros(4, dtype=torch.int64), torch.tensor([0, 0, 0, 2]))
    assert loss.item() == pytest.approx(math.log(3))


def test_it_has_a_gradient_where_embeddings_have_fallen_together_and_the_triplets_have_none():
    torch.manual_seed(0)
    embeddings = (torch.randn(16) + 1e-4 * torch.randn(6, 16)).requires_grad_()
    (triplets,) = torch.autograd.grad(BatchAllTripletLoss(0.2)(embeddings, ATTRIBUTES, VALUES), embeddings)
    (named,) = torch.autograd.grad(ValueNaming(16, OWNERS)(embeddings, ATTRIBUTES, VALUES), embeddings)
    assert triplets.norm() < 1e-4
    assert named.norm() > 1e-2


def test_gradients():
    torch.manual_seed(0)
    naming = ValueNaming(3, OWNERS).double()
    embeddings = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: naming(e, ATTRIBUTES, VALUES), embeddings)


@pytest.mark.parametrize("method", ["ipad_tiny", "csn", "rpf"])
def test_every_method_trains_with_it(small_config, method):
    """One step moves the layer, whatever the width of the method's embedding."""
    from ipad_train.data import load_data
    from ipad_train.networks import make_model, make_objective

    options = "{image_size: 32, embed_dim: 16, trunk: {name: resnet10t, stage: 3}}"
    extra = [] if method == "ipad_tiny" else [f"model={{name: {method}, options: {options}}}", "stage2.steps=0"]
    if method == "rpf":
        extra[0] = extra[0].replace("}}", "}, semantic_trunk: {name: vit_tiny_patch16_224}, crop_size: 32}", 1)
    config = small_config("losses.naming_weight=0.5", *extra)
    data = load_data(config.data)
    model = make_model(config, "stage1", data, small_config.path.parent)
    objective = make_objective(config, "stage1", config.stage1, model, data)
    ids = torch.tensor([0, 0, 0, 0])
    values = torch.tensor([0, 0, 1, 1])
    batch = {
        "images": torch.randint(0, 255, (4, 3, 48, 48), dtype=torch.uint8),
        "attribute_ids": ids,
        "value_ids": values,
        "image_ids": torch.arange(4),
        "image_index": torch.arange(4),
    }
    parts = objective(batch)
    torch.testing.assert_close(parts["loss"].detach(), parts["triplet"] + 0.5 * parts["naming"])
    parts["loss"].backward()
    assert objective.naming.read_out.weight.grad.norm() > 0


def test_a_weight_of_nothing_leaves_the_layer_out(small_config):
    from ipad_train.data import load_data
    from ipad_train.networks import make_model, make_objective

    config = small_config("losses.naming_weight=0")
    data = load_data(config.data)
    model = make_model(config, "stage1", data, small_config.path.parent)
    assert make_objective(config, "stage1", config.stage1, model, data).naming is None


def test_a_negative_weight_is_refused(small_config):
    with pytest.raises(ValueError, match=r"losses\.naming_weight must be zero or more, got -1"):
        small_config("losses.naming_weight=-1")
