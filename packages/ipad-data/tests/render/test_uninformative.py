"""Colours and thumbnails must rank at random: only local evidence tells the values apart."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ipad_data.render import SCHEMA, render_image


def features(num_images: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    histograms, thumbnails, labels = [], [], []
    for index in range(num_images):
        rendered = render_image(index)
        image = np.asarray(rendered.image)
        histograms.append(np.concatenate([np.histogram(image[..., c], 16, (0, 256))[0] for c in range(3)]))
        thumbnails.append(np.asarray(rendered.image.resize((16, 16), Image.Resampling.BOX)).ravel())
        labels.append([rendered.labels.get(attribute) for attribute in SCHEMA.attributes])
    random = np.random.default_rng(0).standard_normal((num_images, 32))
    return {"random": random, "histogram": np.stack(histograms), "thumbnail": np.stack(thumbnails)}, np.array(labels)


def mean_average_precision(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Percent, mean over attributes; every fourth labelled image is a query, the others are the gallery."""
    vectors = vectors - vectors.mean(0)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = vectors @ vectors.T
    result = []
    for attribute in range(labels.shape[1]):
        labelled = np.flatnonzero(labels[:, attribute] != None)  # noqa: E711
        queries = labelled[::4]
        gallery = np.setdiff1d(labelled, queries)
        order = gallery[np.argsort(-similarity[np.ix_(queries, gallery)], axis=1)]
        relevant = labels[order, attribute] == labels[queries, attribute][:, None]
        precision = relevant.cumsum(1) / np.arange(1, relevant.shape[1] + 1)
        result.append(((precision * relevant).sum(1) / relevant.sum(1)).mean())
    return 100 * float(np.mean(result))


@pytest.mark.parametrize("num_images", [900, pytest.param(4000, marks=pytest.mark.slow)])
def test_histogram_and_thumbnail_rank_at_random(num_images):
    vectors, labels = features(num_images)
    by_chance = mean_average_precision(vectors["random"], labels)
    assert 20 < by_chance < 22
    for name in ("histogram", "thumbnail"):
        assert abs(mean_average_precision(vectors[name], labels) - by_chance) < 1.0, name
