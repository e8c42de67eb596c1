#!/usr/bin/env python3
"""Makes tests/fixtures/conversion: small networks in the files and names of their authors, with logits by PyTorch.

The names are written down here from the authors' code, independently of the C++ name maps. Megvii's file is a legacy
torch.save of a DataParallel training checkpoint; tensorpack's is a compressed .npz with optimizer slots. See
docs/goldens.md.
"""

import argparse
import pathlib

import numpy as np
import torch

from make_model_goldens import REPOSITORY, draw_images, initialise
from model_dialects import DIALECTS, make_network, network_input

REPEATS = [3, 2, 2]
CHANNELS = [4, 8, 16, 32, 16]  # the stem is half of stage 2: Megvii's shapes are torchvision's
CLASSES = 7
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "mean/EMA", "running_var": "variance/EMA"}
LAYERS = {("branch_main", 0): "conv1", ("branch_main", 3): "dconv", ("branch_main", 5): "conv2",
          ("branch_proj", 0): "shortcut_dconv", ("branch_proj", 2): "shortcut_conv"}


def megvii_name(name):
    """stage3.1.branch_main.0.weight -> module.features.4.branch_main.0.weight"""
    parts = name.split(".")
    top = {"conv1": "first_conv", "conv5": "conv_last", "fc": "classifier.0"}
    if parts[0] in top:
        return ".".join(["module", top[parts[0]], *parts[1:]])
    unit = sum(REPEATS[:int(parts[0][-1]) - 2]) + int(parts[1])
    return ".".join(["module.features", str(unit), *parts[2:]])


def tensorpack_array(name, value):
    """The name, and the values in TensorFlow's layout."""
    *path, number, leaf = name.split(".")
    if path == [] and number == "fc":
        return (f"linear/{'W' if leaf == 'weight' else 'b'}", value.T)
    number = int(number)
    filters = value.ndim == 4
    if len(path) == 1:
        layer, depthwise = path[0], False
    else:
        stage, unit, branch = path
        layer = LAYERS[branch, number if filters else number - 1]
        depthwise = "dconv" in layer
        layer = f"{stage}/block{unit}/{layer}"
    if filters:
        return f"{layer}/W", value.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
    return layer + ("_bn/" if depthwise else "/bn/") + NORM[leaf], value


def write_weights(dialect, network, folder):
    state = network.float().state_dict()
    if dialect == "torchvision":
        torch.save(state, folder / "torchvision.pth")
    elif dialect == "megvii":
        state = {megvii_name(name): value for name, value in state.items()}
        momentum = {"state": {}, "param_groups": [{"lr": 0.5, "momentum": 0.9}]}
        torch.save({"epoch": 3, "state_dict": state, "optimizer": momentum}, folder / "megvii.pth.tar",
                   _use_new_zipfile_serialization=False)
    else:
        arrays = dict(tensorpack_array(name, value.numpy()) for name, value in state.items()
                      if not name.endswith("num_batches_tracked"))
        arrays["linear/W/Momentum"] = np.zeros_like(arrays["linear/W"])
        arrays["global_step"] = np.int64(7)
        arrays["learning_rate"] = np.float32(0.5)
        np.savez_compressed(folder / "tensorpack.npz", **arrays)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=REPOSITORY / "tests/fixtures/conversion")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(5)
    images = draw_images(generator, 2, 32, 48)
    np.savez_compressed(folder / "images.npz", images=images)
    logits = {}
    for dialect in DIALECTS:
        network = make_network(dialect, REPEATS, CHANNELS, CLASSES)
        initialise(network, generator, network_input(dialect, draw_images(generator, 16, 64, 64)))
        network.eval()
        with torch.no_grad():
            logits[dialect] = network(network_input(dialect, images)).float().numpy()
        write_weights(dialect, network, folder)
    np.savez(folder / "logits.npz", **logits)


if __name__ == "__main__":
    main()
