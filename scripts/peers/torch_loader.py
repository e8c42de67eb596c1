#!/usr/bin/env python3
"""Images/s of PyTorch's DataLoader with torchvision's v1 transforms on Pillow images: the standard training transform.

Usage: torch_loader.py FOLDER [--workers N] [--seconds S] [--batch N] [--transform standard|plain]
FOLDER has a folder for each class. The images are shuffled and repeated for as long as it takes. Prints one line of JSON:
images_per_s by the clock, and images_per_cpu_s of the processor time of all its processes.
Needs torch, torchvision and Pillow from PyPI.
"""
import argparse
import json
import os
import time

import PIL
import torch
import torchvision
from PIL import features
from torchvision import transforms


def make_transform(kind):
    colour = [transforms.ColorJitter(0.4, 0.4, 0.4)] if kind == "standard" else []
    return transforms.Compose([
        transforms.RandomResizedCrop(224),
        transforms.RandomHorizontalFlip(),
        *colour,
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])


class Endless(torch.utils.data.Sampler):
    def __init__(self, size):
        self.size = size

    def __iter__(self):
        while True:
            yield from torch.randperm(self.size).tolist()


def cpu_seconds(pids):
    """Processor time that these processes have had so far (Linux)."""
    ticks = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(options):
    data = torchvision.datasets.ImageFolder(options.folder, make_transform(options.transform))
    loader = torch.utils.data.DataLoader(
        data, batch_size=options.batch, sampler=Endless(len(data)), num_workers=options.workers)
    batches = iter(loader)
    for _ in range(2 + 3 * options.workers):  # workers start, and fill their queues
        next(batches)
    pids = [os.getpid()] + [worker.pid for worker in getattr(batches, "_workers", [])]
    cpu_begin = cpu_seconds(pids)
    begin, images = time.perf_counter(), 0
    while time.perf_counter() - begin < options.seconds:
        pixels, _ = next(batches)
        images += len(pixels)
    return images / (time.perf_counter() - begin), images / (cpu_seconds(pids) - cpu_begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--workers", type=int, default=1, help="0: in the main process")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--transform", choices=["standard", "plain"], default="standard",
                        help="standard: crop, flip, colour jitter 0.4; plain: without the jitter")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images_per_s, images_per_cpu_s = measure(options)
    print(json.dumps({
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
        "libjpeg_turbo": features.version("libjpeg_turbo"),
        "workers": options.workers,
        "batch": options.batch,
        "transform": options.transform,
        "images_per_s": images_per_s,
        "images_per_cpu_s": images_per_cpu_s,
    }))


if __name__ == "__main__":
    main()
