from __future__ import annotations

import pytest

from ipad_core import describe_weights

HUB = {
    "network": "resnet50",
    "tag": "tv_in1k",
    "source": "hub timm/resnet50.tv_in1k",
    "sha256": "0123456789abcdef" * 4,
}


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"network": "resnet10t", "source": "random"}, "resnet10t from random weights"),
        ({"network": "resnet10t", "source": "unknown", "sha256": None}, "resnet10t from unknown weights"),
        (HUB, "resnet50.tv_in1k from hub timm/resnet50.tv_in1k (SHA-256 0123456789ab...)"),
        (
            {"network": "resnet10t", "tag": None, "source": "file own.pth", "via": "attribute_classifier"},
            "resnet10t from file own.pth, then trained in attribute_classifier",
        ),
    ],
)
def test_a_record_in_one_line(record, text):
    assert describe_weights(record) == text
