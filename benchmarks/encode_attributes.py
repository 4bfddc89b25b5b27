"""All attributes of an image in one call of ``encode``, against a call for each attribute.

The trunk runs once per image in the first, and once per image and attribute in the second. Images lie on the device; both
give the same embeddings, which is checked. The two take turns.

    python benchmarks/encode_attributes.py                        # IP-SP at the paper's sizes, 8 attributes
    python benchmarks/encode_attributes.py --model ipad_tiny --both --images 64
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from ipad_core import create_model


def seconds(call: Callable[[], torch.Tensor], device: torch.device) -> float:
    """Of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ipad_resnet50_vitb16")
    parser.add_argument("--attributes", type=int, default=8)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--both", action="store_true", help="both branches; a crop of every entry costs either way")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model = create_model(arguments.model, num_attributes=arguments.attributes).to(device).eval()
    two = getattr(model, "semantic", None) is not None
    options = {} if arguments.both or not two else {"branches": "spatial"}
    side = model.detail_size if options == {} else model.image_size
    images = torch.randint(0, 256, (arguments.images, 3, side, side), device=device).byte()

    def together() -> torch.Tensor:
        return model.encode(images, attributes="all", **options).embedding

    def one_by_one() -> torch.Tensor:
        each = [model.encode(images, attribute=number, **options).embedding for number in range(arguments.attributes)]
        return torch.stack(each, dim=1).flatten(0, 1)

    torch.testing.assert_close(together(), one_by_one(), atol=1e-4, rtol=1e-3)
    pairs = [(seconds(together, device), seconds(one_by_one, device)) for _ in range(arguments.turns)]
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    what = "both branches" if options == {} and two else "the first branch" if two else "the network"
    print(f"{arguments.model}, {what}, {arguments.images} images, {arguments.attributes} attributes, {where}")
    print("| | ms an image, all attributes |\n|---|---|")
    for name, times in zip(("one call", "a call for each"), zip(*pairs, strict=True), strict=True):
        print(f"| {name} | {1000 * statistics.median(times) / arguments.images:.1f} |")
    print(f"One call is {statistics.median(each / all_ for all_, each in pairs):.2f} times as fast.")


if __name__ == "__main__":
    main()
