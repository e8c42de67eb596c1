#!/usr/bin/env python3
"""Trains torchvision's ShuffleNetV2 in PyTorch on a CPU as a Riffle run did: the same network, data, augmentation, optimiser
and schedule, read from the run's config.resolved.yaml. One JSON line an epoch, and a last one with accuracy and seconds.

    python3 torch_train.py RUN_DIR/config.resolved.yaml --seed 1 [--threads 2] [--data DIR]

PyTorch at its best: all images in memory, augmented a batch at a time by tensor operations (pad-and-crop and flip, the two
that the small recipes use), channels-last.
"""
import argparse
import json
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
import yaml

from torch_network import (duration_steps, learning_rate, make_network, make_optimizer, normalise, read_data,
                           refuse_what_is_not_implemented, scaled_to_batch)


def augmentation(transforms):
    """(padding, probability of a flip) of [{pad_and_crop: P}, {flip: Q}]; anything else is refused."""
    padding, flip = 0, 0.0
    for step in transforms:
        (name, value), = step.items() if isinstance(step, dict) else ((step, None),)
        if isinstance(value, dict):
            (_, value), = value.items()
        if name == "pad_and_crop":
            padding = int(value)
        elif name == "flip":
            flip = 0.5 if value is None else float(value)
        else:
            raise SystemExit(f"augment.transforms has {name}; pad_and_crop and flip are known here")
    return padding, flip


def augment(images, padding, flip):
    """u8 (N,H,W,C): a random window of the image padded with zeros, mirrored with a probability."""
    n, height, width, _ = images.shape
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    top, left = torch.randint(0, 2 * padding + 1, (2, n))
    rows = (top[:, None] + torch.arange(height))[:, :, None]
    columns = left[:, None] + torch.arange(width)
    mirrored = torch.rand(n) < flip
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)[:, None, :]
    return padded[torch.arange(n)[:, None, None], rows, columns]


def evaluate(network, images, labels, config, batch):
    network.eval()
    correct = 0
    with torch.no_grad():
        for i in range(0, len(labels), batch):
            logits = network(normalise(images[i:i + batch], config["normalisation"]))
            correct += (logits.argmax(1) == labels[i:i + batch]).sum().item()
    return 100 * correct / len(labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", help="instead of the configuration's data.source")
    arguments = parser.parse_args()
    with open(arguments.config) as file:
        config = yaml.safe_load(file)
    refuse_what_is_not_implemented(config)
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)

    (train_images, train_labels), (val_images, val_labels) = [
        (torch.from_numpy(images.copy()), torch.from_numpy(labels))
        for images, labels in read_data(arguments.data or config["data"]["source"])]
    padding, flip = augmentation(config["augment"]["transforms"])
    network = make_network(config["model"], int(train_labels.max()) + 1).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(network, config["optimizer"])
    criterion = nn.CrossEntropyLoss(label_smoothing=config["train"]["label_smoothing"])
    batch = config["train"]["batch"]
    schedule = scaled_to_batch(config["schedule"], batch)
    steps_per_epoch = len(train_labels) // batch
    total_steps = duration_steps(config["train"]["duration"], steps_per_epoch)

    begin, step = time.perf_counter(), 0
    while step < total_steps:
        network.train()
        order, loss_sum = torch.randperm(len(train_labels)), 0.0
        in_epoch = min(steps_per_epoch, total_steps - step)
        for i in range(in_epoch):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(schedule, step, total_steps, steps_per_epoch)
            indices = order[i * batch:(i + 1) * batch]
            x = normalise(augment(train_images[indices], padding, flip), config["normalisation"])
            optimizer.zero_grad()
            loss = criterion(network(x), train_labels[indices])
            loss.backward()
            optimizer.step()
            loss_sum += loss.item()
            step += 1
        top1 = evaluate(network, val_images, val_labels, config, config["eval"]["batch"] or batch)
        print(json.dumps({"step": step, "loss": loss_sum / in_epoch, "top1": top1,
                          "seconds": time.perf_counter() - begin}), flush=True)
    print(json.dumps({"result": "pytorch " + torch.__version__, "seed": arguments.seed, "steps": step, "top1": top1,
                      "seconds": time.perf_counter() - begin}))


if __name__ == "__main__":
    main()
