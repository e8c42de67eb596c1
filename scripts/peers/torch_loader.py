#!/usr/bin/env python3
"""Images/s of PyTorch's DataLoader with torchvision's v1 transforms on Pillow images: the standard training transform.

Usage: torch_loader.py FOLDER [--workers N] [--seconds S] [--batch N] [--transform standard|plain]
FOLDER has a folder for each class. The images are shuffled and repeated for as long as it takes. Prints one line of JSON.
Needs torch, torchvision and Pillow from PyPI.
"""
import argparse
import json
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


def measure(options):
    data = torchvision.datasets.ImageFolder(options.folder, make_transform(options.transform))
    loader = torch.utils.data.DataLoader(
        data, batch_size=options.batch, sampler=Endless(len(data)), num_workers=options.workers)
    batches = iter(loader)
    for _ in range(2 + 3 * options.workers):  # workers start, and fill their queues
        next(batches)
    begin, images = time.perf_counter(), 0
    while time.perf_counter() - begin < options.seconds:
        pixels, _ = next(batches)
        images += len(pixels)
    return images / (time.perf_counter() - begin)


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
    print(json.dumps({
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
        "libjpeg_turbo": features.version("libjpeg_turbo"),
        "workers": options.workers,
        "batch": options.batch,
        "transform": options.transform,
        "images_per_s": measure(options),
    }))


if __name__ == "__main__":
    main()
