"""Which value a photo shows: by hand, from a few images a value, and from the file beside a model."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ipad_train.value_centers import FILE, ValueCenters, fit_centers, rows_for_centers


def entries(fused, attribute_ids, value_ids):
    return SimpleNamespace(
        fused=np.array(fused, dtype=np.float32), attribute_ids=np.array(attribute_ids), value_ids=np.array(value_ids)
    )


def test_centers_are_mean_directions_and_predict_the_nearest():
    train = entries([[2, 0], [0, 5], [0, 1], [1, 0]], [0, 0, 0, 1], [0, 1, 1, 2])
    centers = fit_centers(train, train, (2, 2))
    np.testing.assert_allclose(centers.centers, [[1, 0], [0, 1], [1, 0], [0, 0]], atol=1e-6)
    values, confidence = centers.predict(np.array([[[1, 0], [0, 1]]], dtype=np.float32))
    assert values.tolist() == [[0, 0]]  # the second attribute's other value was never seen
    assert confidence[0, 0] == pytest.approx(1 / (1 + np.exp(-1 / centers.temperatures[0])), abs=1e-5)
    assert confidence[0, 1] == 1


def test_rows_give_every_value_its_share_and_no_more_than_needed():
    rows = np.repeat(np.arange(300), 2)
    values = np.random.default_rng(1).integers(0, 4, 600) + np.tile([0, 4], 300)
    values[-1] = 8  # a value of one image only
    table = SimpleNamespace(rows=rows, value_ids=values, schema=SimpleNamespace(total_values=9))
    chosen = rows_for_centers(table, per_value=5)
    met = np.bincount(values[np.isin(rows, chosen)], minlength=9)
    assert (met[:8] >= 5).all()
    assert met[8] == 1
    assert len(chosen) <= 5 * 9
    assert (np.diff(chosen) > 0).all()
    assert len(rows_for_centers(table, per_value=300, most=17)) == 17


def test_file_beside_a_model(tmp_path):
    assert ValueCenters.read(tmp_path, (2, 1)) is None
    made = ValueCenters(np.eye(3, dtype=np.float32), (2, 1), np.array([0.1, 0.2], dtype=np.float32))
    made.save(tmp_path)
    found = ValueCenters.read(tmp_path, (2, 1))
    np.testing.assert_array_equal(found.centers, made.centers)
    np.testing.assert_array_equal(found.temperatures, made.temperatures)
    with pytest.raises(ValueError, match="3 values of 1 attributes"):
        ValueCenters.read(tmp_path, (3,))
    (tmp_path / FILE).write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is damaged"):
        ValueCenters.read(tmp_path, (2, 1))
