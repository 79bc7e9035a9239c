"""Encoder inference at ASAP's published size beside the bare matrix products of its layers. Prints JSON.

    python -m benchmarks.encoder [--repeats 3]

Both in float32 in one process, alternating: the whole ViT-B on one 224x224x112 crop, every patch visible, and only its
products on tensors of the same shapes: patch embedding, the four linear layers of each block by the same library, and
attention's two products. The fastest of each counts.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch

from benchmarks.machine import figure
from core.models.linear import Linear
from core.models.vit import VisionConfig, VisionTransformer3d


def bare_products(vision: VisionConfig) -> Callable[[], None]:
    """A function that multiplies what the encoder multiplies and does nothing else."""
    tokens, width, hidden = vision.patches + 1, vision.width, vision.width * vision.mlp_ratio
    shapes = [(width, 3 * width), (width, width), (width, hidden), (hidden, width)]
    layers = [Linear(*shape) for shape in shapes]
    inputs = [torch.randn(1, tokens, shape[0]) for shape in shapes]
    embed, patches = Linear(vision.patch_voxels, width), torch.randn(1, vision.patches, vision.patch_voxels)
    query = torch.randn(vision.heads, tokens, width // vision.heads)
    key = query.transpose(1, 2).contiguous()
    weights = torch.rand(vision.heads, tokens, tokens)

    def multiply() -> None:
        embed(patches)
        for _ in range(vision.depth):
            for layer, values in zip(layers, inputs, strict=True):
                layer(values)
            torch.bmm(query, key)
            torch.bmm(weights, query)

    return multiply


def fastest(jobs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of the fastest run of each job, after one that does not count, taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    with torch.inference_mode():
        for _ in range(repeats + 1):
            for name, job in jobs.items():
                began = time.perf_counter()
                job()
                seconds[name].append(time.perf_counter() - began)
    return {name: min(taken[1:]) for name, taken in seconds.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    torch.manual_seed(0)
    vision = VisionConfig()
    model, image = VisionTransformer3d(vision).eval(), torch.rand(1, 1, *vision.image_size)
    taken = fastest({"encoder": lambda: model.encode_patches(image), "products": bare_products(vision)}, repeats)
    ratio = taken["encoder"] / taken["products"]
    seconds = {name: round(value, 3) for name, value in taken.items()}
    print(json.dumps(figure("encoder over its bare products", ratio, 1.2, "ratio", seconds=seconds), indent=1))


if __name__ == "__main__":
    main()
