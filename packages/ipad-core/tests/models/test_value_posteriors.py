from __future__ import annotations

import copy
import math

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from ipad_core import AttributeEmbedder, ValuePosteriors, create_model, export_onnx, export_program

IMAGES = torch.randint(0, 256, (4, 3, 48, 48), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
ENTRIES = torch.tensor([0, 0, 1, 2, 3])
ATTRIBUTES = torch.tensor([0, 1, 1, 0, 1])


def entries(dim, count=60):
    """Unit embeddings of two attributes: three values that show in dimension 0, two that show in dimension 1."""
    generator = torch.Generator().manual_seed(2)
    values = torch.stack([torch.arange(count) % 3, torch.arange(count) // 3 % 2], dim=1)
    attributes = torch.tensor([0, 1]).repeat(count)
    embeddings = torch.randn(2 * count, dim, generator=generator)
    local = values.flatten().float()
    embeddings[attributes == 0, 0] += 4 * local[attributes == 0]
    embeddings[attributes == 1, 1] += 4 * local[attributes == 1]
    return F.normalize(embeddings, dim=1), attributes, (values + torch.tensor([0, 3])).flatten()


def fitted(dim, share=0.3, parts=None):
    values = ValuePosteriors(2, parts or [dim], share=share)
    values.fit(*entries(dim))
    return values


@pytest.fixture
def small(small_trunk):
    def make(name="csn"):
        sizes = {"embed_dim": 16, **small_trunk}
        if name == "ipad":
            trunk = {"name": "vit_tiny_patch16_224", "options": {"embed_dim": 16, "depth": 1, "num_heads": 2}}
            sizes |= {"latent_dim": 8, "crop_size": 32, "semantic_heads": 2, "semantic_trunk": trunk}
            sizes |= {"fusion": "concat"}
        return create_model(name, num_attributes=2, **sizes).eval()

    return make


def known(logits):
    """A layer that gives these probabilities whatever it sees: no projection, only a bias."""
    values = ValuePosteriors(1, [2], width=2, share=0.25)
    values.discriminants[0].bias.copy_(torch.tensor([logits]))
    values.discriminants[0].is_posterior.fill_(True)
    return values


def test_a_hand_worked_entry():
    # e = (3, 4), p = (1/2, 1/2), s = 1/4: [0.5 (0.6, 0.8), sqrt(0.75) (sqrt(0.5), sqrt(0.5))].
    joined, posteriors = known([2.0, 2.0])(torch.tensor([[3.0, 4.0]]), torch.tensor([0]))
    expected = torch.tensor([[0.3, 0.4, math.sqrt(0.375), math.sqrt(0.375)]])
    torch.testing.assert_close(joined, expected)
    torch.testing.assert_close(posteriors, torch.tensor([[0.5, 0.5]]))


def test_the_cosine_is_the_weighted_sum_of_both():
    embeddings, attributes, _ = entries(8)
    values = fitted(8)
    joined = values(embeddings, attributes)[0]
    chances = F.normalize(values.discriminants[0](embeddings, torch.arange(len(embeddings)), attributes), dim=1)
    expected = 0.3 * embeddings @ embeddings.T + 0.7 * chances @ chances.T
    torch.testing.assert_close(joined @ joined.T, expected, rtol=1e-4, atol=1e-5)


def test_parts_have_probabilities_of_their_own_weighed_as_the_branches_are():
    embeddings, attributes, value_ids = entries(16)
    left, right = F.normalize(embeddings[:, :10], dim=1), F.normalize(embeddings[:, 10:], dim=1)
    beta = 0.8
    fused = torch.cat([beta**0.5 * left, (1 - beta) ** 0.5 * right], dim=1)
    values = ValuePosteriors(2, [10, 6], share=0.3)
    values.fit(fused, attributes, value_ids)
    joined, posteriors = values(fused, attributes)
    assert joined.shape == (120, 16 + 2 * 3)
    torch.testing.assert_close(joined.norm(dim=1), torch.ones(120))
    alone = []
    for part in (left, right):
        one = ValuePosteriors(2, [part.shape[1]], share=0.3)
        one.fit(part, attributes, value_ids)
        alone.append(one(part, attributes))
    expected = beta * alone[0][0] @ alone[0][0].T + (1 - beta) * alone[1][0] @ alone[1][0].T
    torch.testing.assert_close(joined @ joined.T, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(posteriors, beta * alone[0][1] + (1 - beta) * alone[1][1], rtol=1e-4, atol=1e-4)
    nothing = torch.cat([left, torch.zeros_like(right)], dim=1)  # beta = 1
    torch.testing.assert_close(values(nothing, attributes)[0].norm(dim=1), torch.ones(120))


def test_probabilities_are_those_of_gaussians_with_one_covariance():
    """Bayes' rule written out for every entry, at half the gain (which ranks better)."""
    embeddings, attributes, value_ids = entries(6)
    values = ValuePosteriors(2, [6])
    (fits,) = values.fit(embeddings, attributes, value_ids)
    answer = values(embeddings, attributes)[1]
    torch.testing.assert_close(answer.sum(dim=1), torch.ones(len(answer)))
    x = embeddings.double()
    x = (x - x.mean(dim=0)) / x.std(dim=0, correction=0).mean()  # one scale for all
    for attribute in (0, 1):
        mine, names = x[attributes == attribute], value_ids[attributes == attribute]
        means = {name: mine[names == name].mean(dim=0) for name in names.unique().tolist()}
        scatter = sum(
            (row - means[name]).outer(row - means[name]) for row, name in zip(mine, names.tolist(), strict=True)
        )
        scatter = scatter / len(mine)
        shrinkage = fits[attribute].shrinkage
        covariance = (1 - shrinkage) * scatter + shrinkage * scatter.trace() / 6 * torch.eye(6)
        inverse = torch.linalg.inv(covariance)
        for row in range(5):
            logits = torch.stack(
                [
                    math.log((names == name).double().mean())
                    - 0.25 * (mine[row] - mean) @ inverse @ (mine[row] - mean)
                    for name, mean in means.items()
                ]
            )
            expected = logits.softmax(dim=0).float()
            actual = answer[attributes == attribute][row]
            torch.testing.assert_close(actual[: len(expected)], expected, rtol=1e-3, atol=1e-4)
            assert not actual[len(expected) :].any()


def test_it_ranks_entries_of_one_value_higher():
    embeddings, attributes, value_ids = entries(16)
    values = fitted(16)
    joined = values(embeddings, attributes)[0]
    mine = attributes == 0
    same = value_ids[mine][:, None] == value_ids[mine]

    def gap(vectors):
        similarity = vectors[mine] @ vectors[mine].T
        return float(similarity[same].mean() - similarity[~same].mean())

    assert gap(joined) > gap(embeddings) + 0.3


@pytest.mark.parametrize("name", ["csn", "ipad"])
def test_a_network_with_values_answers_both_parts_and_comes_back_from_disk(small, name, tmp_path):
    model = small(name)
    before = model(IMAGES, ATTRIBUTES, ENTRIES)
    assert (before.plain, before.posteriors) == (None, None)
    dim = before.embedding.shape[1]
    parts = model.embedding_parts(dim)
    assert parts == ((16,) if name == "csn" else (16, 16))
    model.set_values(fitted(dim, parts=parts))
    output = model(IMAGES, ATTRIBUTES, image_index=ENTRIES)
    torch.testing.assert_close(output.plain, before.embedding)
    torch.testing.assert_close(output.embedding, model.values(output.plain, ATTRIBUTES)[0])
    torch.testing.assert_close(output.embedding.norm(dim=1), torch.ones(5))
    assert output.embedding.shape == (5, dim + 3 * len(parts))
    model.save_pretrained(tmp_path)
    assert "0.3 times that of the first part plus 0.7 times" in (tmp_path / "README.md").read_text()
    again = AttributeEmbedder.from_pretrained(tmp_path)
    assert again.values.share == 0.3
    by_keyword = again(images=IMAGES, attribute_ids=ATTRIBUTES, image_index=ENTRIES)
    torch.testing.assert_close(by_keyword.embedding, output.embedding)
    encoded = copy.deepcopy(again).encode(IMAGES, ATTRIBUTES, ENTRIES, batch_size=2)
    torch.testing.assert_close(encoded.posteriors, output.posteriors)
    model.set_values(None)
    assert model(IMAGES, ATTRIBUTES, ENTRIES).plain is None


def test_values_move_to_the_networks_device(small):
    model = small().to("meta")
    model.set_values(fitted(16))
    assert model.values.discriminants[0].projection.is_meta


def test_training_and_one_branch_alone_are_left_as_they_are(small):
    model = small("ipad")
    model.set_values(fitted(32))
    assert model(IMAGES, ATTRIBUTES, ENTRIES, branches="spatial").posteriors is None
    assert model.train()(IMAGES, ATTRIBUTES, ENTRIES).posteriors is None


def test_a_changed_model_loses_its_values_with_a_warning(small, tmp_path):
    model = small("ipad")
    model.set_values(fitted(32))
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="fitted on this model without beta; they are left out"):
        again = AttributeEmbedder.from_pretrained(tmp_path, beta=0.9)
    assert again.values is None
    with pytest.warns(UserWarning, match=r"start anew|left out"):
        assert AttributeEmbedder.from_pretrained(tmp_path, num_attributes=5).values is None


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # torch's exporter about torch
def test_values_are_exported_and_compiled_with_the_network(small, tmp_path):
    model = small()
    model.set_values(fitted(16))
    question = IMAGES, ATTRIBUTES, ENTRIES
    expected = model(*question).embedding
    torch.testing.assert_close(export_program(model, 48).module()(*question)[0], expected, rtol=1e-4, atol=1e-5)
    names = export_onnx(model, tmp_path / "model.onnx", 48)
    assert {"embedding", "plain", "posteriors"} <= set(names)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    arrays = zip(("images", "attribute_ids", "image_index"), question, strict=True)
    answer = session.run(["embedding"], {key: tensor.numpy() for key, tensor in arrays})[0]
    np.testing.assert_allclose(answer, expected.detach().numpy(), rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="eager")(*question).embedding
    torch.testing.assert_close(compiled, expected, rtol=1e-4, atol=1e-5)


def test_an_attribute_with_one_value_keeps_the_order_of_the_embedding():
    embeddings, attributes, labels = entries(8)
    branches = [0.8 * F.normalize(embeddings[:, :5], dim=1), 0.6 * F.normalize(embeddings[:, 5:], dim=1)]
    embeddings = torch.cat(branches, dim=1)  # two branches, as a fusion weighs them
    kept = (attributes == 0) | (labels == 3)  # of attribute 1 one value is left
    values = ValuePosteriors(2, [5, 3])
    with pytest.warns(
        UserWarning, match="attribute 1 has 1 labelled values.*all its entries have the same probabilities"
    ):
        values.fit(embeddings[kept], attributes[kept], labels[kept])
    assert values.facts["width"] == 3  # the values of attribute 0, and not the features
    mine = embeddings[attributes == 1][:10]
    joined, chances = values(mine, torch.ones(10, dtype=torch.long))
    torch.testing.assert_close(chances, torch.tensor([1.0, 0.0, 0.0]).expand(10, 3))
    torch.testing.assert_close(joined @ joined.T, 0.3 * mine @ mine.T + 0.7)
    loaded = ValuePosteriors(**values.facts)
    loaded.load_state_dict(values.state_dict())
    torch.testing.assert_close(loaded(mine, torch.ones(10, dtype=torch.long))[0], joined)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_outside_zero_to_one_is_refused(share):
    with pytest.raises(ValueError, match=rf"share must be within \[0, 1\], got {share}"):
        ValuePosteriors(2, [8], share=share)


def test_unusable_training_entries_are_refused():
    values = ValuePosteriors(2, [4])
    with pytest.raises(ValueError, match=r"embeddings must be \(B, 4\), got \(3, 5\)"):
        values.fit(torch.ones(3, 5), [0, 0, 1], [0, 1, 2])
    with pytest.raises(ValueError, match="must be finite"):
        values.fit(torch.full((3, 4), torch.nan), [0, 0, 1], [0, 1, 2])
    with pytest.raises(ValueError, match="attribute_ids must be within"):
        values.fit(torch.ones(3, 4), [0, 0, 7], [0, 1, 2])
    with pytest.warns(UserWarning, match="attribute 1 has 0 labelled values"):
        values.fit(entries(4)[0][::2], torch.zeros(60, dtype=torch.long), torch.arange(60) % 3)
