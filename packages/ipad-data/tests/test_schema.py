from __future__ import annotations

import numpy as np

from ipad_data import AttributeSchema

SCHEMA = AttributeSchema({"a": ["x", "y"], "b": ["x"], "c": ["x", "y", "z"]})


def test_value_attribute_ids_by_hand():
    found = SCHEMA.value_attribute_ids
    assert found.dtype == np.int64
    assert found.tolist() == [0, 0, 1, 2, 2, 2]


def test_value_attribute_ids_agree_with_locate():
    assert SCHEMA.value_attribute_ids.tolist() == [SCHEMA.locate(v)[0] for v in range(SCHEMA.total_values)]
