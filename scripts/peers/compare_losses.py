#!/usr/bin/env python3
"""The first steps of training, Riffle beside PyTorch: the same weights, the same batches, float32 on the CPU; how far apart
are the losses? Fails above 1e-3 (relative) in any step.

    python3 compare_losses.py RIFFLE_BINARY WEIGHTS.pth IMAGES [--steps 100] [--lr 0.0003] [--batch 32]

WEIGHTS.pth is torchvision's shufflenet_v2_x0_5 with ImageNet's 1000 classes, IMAGES a folder of class folders named by
wnid. The batches are those that Riffle's loader shows (riffle_random.py), without random augmentation.

PyTorch runs in float64 too. Its distance from its own float32 is what rounding alone does: a network that has not learnt
anything amplifies it without bound (an input of a ReLU that rounds to the other side of zero), so the comparison starts
from trained weights, and at a rate at which that distance stays below the tolerance (docs/results).
"""
import argparse
import glob
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torchvision
import yaml
from PIL import Image

from riffle_random import epoch_order
from torch_network import learning_rate, make_network, make_optimizer, normalise

TOLERANCE = 1e-3
CONFIG = {
    "model": {"width": "0.5x", "dialect": "torchvision", "stem_stride": 2, "stem_max_pool": True, "input_channels": 3},
    "normalisation": {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "augment": {"size": 224, "transforms": [{"resize": 256}, "center_crop"]},
    "eval": {"resize": 256, "crop": 224},
    "optimizer": {"momentum": 0.9, "nesterov": True, "weight_decay": 4e-5},
}


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n" + "\n".join(done.stdout.splitlines()[-3:]))


def read_images(root, classes):
    """Every image as evaluation sees it, u8 (N,224,224,3), and labels: in the order of Riffle's image folders."""
    transform = torchvision.transforms.Compose(
        [torchvision.transforms.Resize(256), torchvision.transforms.CenterCrop(224)])
    paths = sorted(glob.glob(os.path.join(root, "*", "*")))
    images = [np.asarray(transform(Image.open(path).convert("RGB"))) for path in paths]
    labels = [classes.index(os.path.basename(os.path.dirname(path))) for path in paths]
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def convert(binary, weights, folder):
    """Path of the converted weights, and the wnids of their classes."""
    path = os.path.join(folder, "begin.safetensors")
    run(binary, "convert", weights, path)
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        metadata = json.loads(file.read(size))["__metadata__"]
    return path, [name.split()[0] for name in json.loads(metadata["classes"])]


def riffle_losses(binary, config, weights, folder):
    config_path, output = os.path.join(folder, "config.yaml"), os.path.join(folder, "run")
    with open(config_path, "w") as file:
        yaml.safe_dump(config, file)
    run(binary, "train", config_path, "-o", output, "--init", weights, "--device", "cpu")
    with open(os.path.join(output, "metrics.jsonl")) as file:
        records = [json.loads(line) for line in file]
    return [record["loss"] for record in records if record["type"] == "train"]


def torch_losses(config, weights, images, labels, steps, dtype):
    network = make_network(config["model"], 1000)
    network.load_state_dict(torch.load(weights))
    network.to(dtype).train()
    optimizer = make_optimizer(network, config["optimizer"])
    criterion = nn.CrossEntropyLoss(label_smoothing=config["train"]["label_smoothing"])
    batch, losses = config["train"]["batch"], []
    per_epoch = len(labels) // batch
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.tensor(epoch_order(len(labels), config["train"]["seed"], step // per_epoch))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config["schedule"], step, steps, per_epoch)
        indices = order[step % per_epoch * batch:(step % per_epoch + 1) * batch]
        optimizer.zero_grad()
        x = normalise(images[indices], config["normalisation"]).to(dtype)
        loss = criterion(network(x), labels[indices])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("riffle")
    parser.add_argument("weights")
    parser.add_argument("images")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--lr", type=float, default=0.0003)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    config = dict(CONFIG)
    config["schedule"] = {"kind": "cosine", "lr": arguments.lr, "final_lr": 0.0, "warmup": "20it", "warmup_factor": 0.0}
    config["train"] = {"duration": f"{arguments.steps}it", "batch": arguments.batch, "label_smoothing": 0.1, "seed": 1,
                       "log_every_steps": 1}
    with tempfile.TemporaryDirectory() as folder:
        weights, classes = convert(arguments.riffle, arguments.weights, folder)
        for split in ("train", "val"):  # what it is validated on does not matter here
            os.symlink(os.path.abspath(arguments.images), os.path.join(folder, split))
        config["data"] = {"source": "folder:" + folder, "class_names": classes}
        riffle = riffle_losses(arguments.riffle, config, weights, folder)
    images, labels = read_images(arguments.images, classes)
    single, double = [torch_losses(config, arguments.weights, images, labels, arguments.steps, dtype)
                      for dtype in (torch.float32, torch.float64)]
    if len(riffle) != len(single):
        raise SystemExit(f"Riffle logged {len(riffle)} steps, expected {len(single)}")

    print("step   riffle      pytorch     difference   of riffle, of pytorch from pytorch in float64")
    worst = 0.0
    for step, (a, b, c) in enumerate(zip(riffle, single, double), 1):
        worst = max(worst, abs(a - b) / b)
        if step in (1, 2, 5, 10, 20, 50) or step == len(riffle):
            print(f"{step:4}   {a:.7f}   {b:.7f}   {abs(a - b) / b:.1e}      {abs(a - c) / c:.1e}, {abs(b - c) / c:.1e}")
    print(f"largest relative difference of {len(riffle)} steps: {worst:.1e} (tolerance {TOLERANCE:g})")
    from_double = [max(abs(x - c) / c for x, c in zip(losses, double)) for losses in (riffle, single)]
    print("largest distance from float64: Riffle {:.1e}, PyTorch {:.1e}".format(*from_double))
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()
