#!/usr/bin/env python3
"""Bytes that every operation of a step on CUDA moves per image, from the layers that `riffle inspect --json` lists.

Counts each argument's tensor once per pass, as the operations of layers/fused_*.cpp, routed_stage.cpp and cuda/ are
composed; vectors of channels and filters are left out. Prints the tables of docs/performance.md. It changes with them.

    riffle inspect configs/imagenet.yaml --json | scripts/step_traffic.py
"""
import json
import math
import sys
from collections import OrderedDict

PEAK_BYTES_PER_S = 3.35e12  # H100 SXM5, data sheet
WINNER_BYTES = 1


class Layer:
    def __init__(self, row, image):
        self.kind = row["kind"].split()[0]
        self.name = row["name"]
        height, width, self.channels = row["output"]
        self.stride = 2 if "/2" in row["kind"] else 1
        self.pixels = height * width
        self.outputs = self.pixels * self.channels
        if self.kind == "conv":
            self.inputs = math.prod(image)
        elif self.kind == "pointwise":
            self.inputs = row["macs"] // self.channels
        else:
            self.inputs = self.outputs * self.stride**2


class Traffic:
    """Activation elements, and bytes of u8 tensors, by operation; in the order in which they were first met."""

    def __init__(self):
        self.rows = OrderedDict()

    def add(self, operation, formula, elements, small_bytes=0):
        row = self.rows.setdefault(operation, [formula, 0, 0, 0])
        row[1] += 1
        row[2] += elements
        row[3] += small_bytes

    def total(self, size):
        return sum(elements * size + small for _, _, elements, small in self.rows.values())


def branches(layers):
    """The convolutions of each branch: [pointwise,] depthwise, pointwise."""
    groups = OrderedDict()
    for layer in layers:
        if layer.kind in ("depthwise", "pointwise") and ".branch" in layer.name:
            groups.setdefault(layer.name.rsplit(".", 1)[0], []).append(layer)
    return list(groups.values())


def head_of(layers):
    return next(layer for layer in layers if layer.name.startswith("conv5"))


def pointwise_norm_backward(traffic, conv, sums_known):
    x, y = conv.inputs, conv.outputs
    if not sums_known:
        traffic.add("batch_norm_backward, sums", "2 out", 2 * y)
    traffic.add("batch_norm_backward, apply", "3 out", 3 * y)
    traffic.add("pointwise_backward_weights", "in + out", x + y)
    traffic.add("pointwise_backward_data", "in + out", x + y)


def train(layers):
    t = Traffic()
    stem = next(layer for layer in layers if layer.kind == "conv")
    pool = next(layer for layer in layers if layer.kind == "max-pool")
    head = head_of(layers)

    def statistics(conv):
        t.add("batch_norm_statistics", "out", conv.outputs)

    def pointwise(conv):
        t.add("pointwise", "in + out", conv.inputs + conv.outputs)
        statistics(conv)

    t.add("normalize", "image; image in u8", stem.inputs, stem.inputs)
    t.add("conv2d", "in + out", stem.inputs + stem.outputs)
    statistics(stem)
    t.add("batch_norm_max_pool", "in + out; out in u8", stem.outputs + pool.outputs, WINNER_BYTES * pool.outputs)
    for branch in branches(layers):
        depthwise, last = branch[-2:]
        if len(branch) == 3:
            pointwise(branch[0])
            t.add("norm_depthwise", "in + out", depthwise.inputs + depthwise.outputs)
        else:
            t.add("depthwise", "in + out", depthwise.inputs + depthwise.outputs)
        statistics(depthwise)
        pointwise(last)
        t.add("batch_norm_apply", "2 out", 2 * last.outputs)
    pointwise(head)
    t.add("batch_norm_apply", "2 out", 2 * head.outputs)
    t.add("global_average_pool", "in", head.outputs)

    t.add("global_average_pool_backward", "in", head.outputs)
    pointwise_norm_backward(t, head, sums_known=False)
    for branch in branches(layers):
        depthwise, last = branch[-2:]
        pointwise_norm_backward(t, last, sums_known=False)
        # A projection adds to the gradient that the main branch has left, and so reads it.
        dx = (2 if len(branch) == 3 else 3) * depthwise.inputs
        t.add("norm_depthwise_backward", "2 in + 2 out", dx + 2 * depthwise.outputs)
        if len(branch) == 3:
            pointwise_norm_backward(t, branch[0], sums_known=True)
    t.add("batch_norm_max_pool_backward", "3 in + 2 out; 2 out in u8", 3 * stem.outputs + 2 * pool.outputs,
          2 * WINNER_BYTES * pool.outputs)
    t.add("conv2d_backward_weights", "in + out", stem.inputs + stem.outputs)
    return t


def infer(layers):
    t = Traffic()
    stem = next(layer for layer in layers if layer.kind == "conv")
    pool = next(layer for layer in layers if layer.kind == "max-pool")
    t.add("conv2d", "in + out", stem.inputs + stem.outputs)
    t.add("bias and ReLU of conv2d", "2 out", 2 * stem.outputs)
    t.add("max_pool", "in + out; out in u8", stem.outputs + pool.outputs, WINNER_BYTES * pool.outputs)
    for layer in layers:
        if layer.kind in ("pointwise", "depthwise"):
            t.add(layer.kind, "in + out", layer.inputs + layer.outputs)
    t.add("global_average_pool", "in", head_of(layers).outputs)
    return t


def floors(layers):
    """Elements of the least plan that keeps one tensor per convolution: inference, training."""
    convolutions = [layer for layer in layers if layer.kind in ("conv", "depthwise", "pointwise")]
    stem, others = convolutions[0], convolutions[1:]
    pool = next(layer for layer in layers if layer.kind == "max-pool")
    forward = sum(c.inputs + c.outputs for c in convolutions) + stem.outputs + pool.outputs + head_of(layers).outputs
    backward = sum(2 * (c.inputs + c.outputs) for c in others) + stem.inputs + 2 * stem.outputs
    backward += 2 * stem.outputs + pool.outputs + head_of(layers).outputs
    return forward, forward + backward


def megabytes(size):
    return f"{size / 1e6:.2f}"


def table(title, traffic):
    print(f"\n### {title}\n")
    print("| operation | calls | moves (elements of a call) | MB, bf16 | MB, f32 | floor, bf16, ns | part of the step |")
    print("|---|---|---|---|---|---|---|")
    whole = traffic.total(2)
    for operation, (formula, calls, elements, small) in traffic.rows.items():
        half, single = elements * 2 + small, elements * 4 + small
        print(f"| {operation} | {calls} | {formula} | {megabytes(half)} | {megabytes(single)} | "
              f"{half / PEAK_BYTES_PER_S * 1e9:.0f} | {100 * half / whole:.0f} % |")
    print(f"| **sum** | | | **{megabytes(whole)}** | **{megabytes(traffic.total(4))}** | "
          f"**{whole / PEAK_BYTES_PER_S * 1e9:.0f}** | |")


def summary(name, planned, floor):
    for dtype, size in (("bf16", 2), ("f32", 4)):
        moved = planned.total(size)
        print(f"| {name}, {dtype} | {megabytes(moved)} | {PEAK_BYTES_PER_S / moved / 1e3:.0f} k | "
              f"{megabytes(floor * size)} | {PEAK_BYTES_PER_S / (floor * size) / 1e3:.0f} k | {moved / floor / size:.2f} |")


def main():
    description = json.load(sys.stdin)
    layers = [Layer(row, description["input"]) for row in description["layers"]
              if row["kind"].split()[0] in ("conv", "max-pool", "depthwise", "pointwise")]
    training, inference = train(layers), infer(layers)
    for_inference, for_training = floors(layers)
    print("| step | MB an image | bound, images/s | MB an image, least plan | bound, images/s | ratio of bytes |")
    print("|---|---|---|---|---|---|")
    summary("training", training, for_training)
    summary("inference", inference, for_inference)
    table("Training", training)
    table("Inference", inference)


if __name__ == "__main__":
    main()
