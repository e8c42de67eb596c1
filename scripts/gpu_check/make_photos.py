"""Writes a folder of classes with JPEGs of the size of ImageNet's photos and about their number of bytes, for measuring
how fast training images can be had. Usage: make_photos.py FOLDER COUNT. Needs Pillow and numpy, as PyTorch's users have.
"""
import pathlib
import sys

import numpy
from PIL import Image

CLASSES, WIDTH, HEIGHT, QUALITY = 4, 500, 375, 96


def photo(random):
    """Structure at every scale, as photos have it; noise alone would make files of three times the size."""
    pixels = numpy.zeros((HEIGHT, WIDTH, 3), numpy.float32)
    for cells in (4, 16, 64, 256, 375):
        grain = Image.fromarray(random.integers(0, 256, (cells, cells, 3), numpy.uint8))
        pixels += numpy.asarray(grain.resize((WIDTH, HEIGHT), Image.BICUBIC), numpy.float32) / cells**0.3
    pixels -= pixels.min()
    return Image.fromarray((pixels * (255 / pixels.max())).astype(numpy.uint8))


def main():
    folder, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    random = numpy.random.default_rng(1)
    photos = [photo(random) for _ in range(16)]
    for split, images in (("train", count), ("val", max(CLASSES, count // 8))):
        for i in range(images):
            path = folder / split / str(i % CLASSES) / f"{i:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            photos[i % len(photos)].save(path, quality=QUALITY)


main()
