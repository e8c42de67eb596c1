#!/usr/bin/env python3
"""Makes tests/fixtures/imagenet_sample_pixels.txt: what Pillow and torchvision make of 400 images of ImageNet's validation set.

Usage: make_pixel_checksums.py FOLDER, with FOLDER/<class>/<image>. A line an image: its path in FOLDER, the CRC-32 of the
pixels (uint8, H,W,C) of Image.open().convert("RGB"), then of Resize(256), CenterCrop(224) of that, then of Resize(232),
CenterCrop(224). Needs Pillow and torchvision from PyPI; their versions are in the first line.
"""
import pathlib
import sys
import zlib

import PIL
import numpy as np
import torchvision
from PIL import Image, features
from torchvision import transforms

OUTPUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "imagenet_sample_pixels.txt"
SIZES = (256, 232)


def checksum(image):
    return f"{zlib.crc32(np.ascontiguousarray(np.asarray(image)).tobytes()):08x}"


def main():
    folder = pathlib.Path(sys.argv[1])
    evaluations = [
        transforms.Compose([
            transforms.Resize(size, transforms.InterpolationMode.BILINEAR, antialias=True),
            transforms.CenterCrop(224)
        ]) for size in SIZES
    ]
    lines = [
        f"# Pillow {PIL.__version__} (libjpeg-turbo {features.version('libjpeg_turbo')}), "
        f"torchvision {torchvision.__version__.split('+')[0]}; made by scripts/goldens/make_pixel_checksums.py"
    ]
    for path in sorted(folder.glob("*/*")):
        with Image.open(path) as file:
            image = file.convert("RGB")
        sums = [checksum(image)] + [checksum(evaluation(image)) for evaluation in evaluations]
        lines.append(" ".join([path.relative_to(folder).as_posix()] + sums))
    OUTPUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
