#!/usr/bin/env python3
"""Makes tests/fixtures/resize: what OpenCV, Pillow and the published evaluation pipelines make of images.

goldens.txt has one line a result: FILE CHANNELS OPERATION ARGUMENTS | HEIGHT WIDTH CHANNELS CRC32; FILE is of this
folder or of tests/fixtures/images. orientations.txt is the same for EXIF data, inputs.npz holds whole network inputs.
Needs python3-opencv (4.6), Pillow (from 13.0, see docs/preprocessing.md), python3-numpy and python3-torchvision (0.14). OpenCV must not
use Intel's IPP, which differs in bicubic pixels; Debian's does not, and for packages that do the variable below
switches it off. The result is deterministic.

With a folder of photographs as argument it instead prints how far the interpolations are apart on them, and writes
photographs.txt, one line a pipeline: INTERPOLATION ROUNDING OFFSET COUNT CRC32, of the crops of every tenth photograph.
"""
import io
import os
import pathlib
import struct
import sys
import zlib

os.environ["OPENCV_IPP"] = "disabled"

import cv2
import numpy as np
from PIL import Image, ImageOps
from torchvision import transforms

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "tests" / "fixtures"
FOLDER = FIXTURES / "resize"
RANDOM = np.random.RandomState(20241124)
FILTERS = {
    "pillow-bilinear": Image.BILINEAR,
    "pillow-bicubic": Image.BICUBIC,
    "opencv-bilinear": cv2.INTER_LINEAR,
    "opencv-bicubic": cv2.INTER_CUBIC,
}


def resize(image, height, width, interpolation):
    if interpolation.startswith("pillow"):
        return image.resize((width, height), FILTERS[interpolation])
    return Image.fromarray(cv2.resize(np.asarray(image), (width, height), interpolation=FILTERS[interpolation]))


def short_edge(image, size, interpolation, rounding):
    """torchvision's Resize, or with half-up the resizing of Megvii's and tensorpack's evaluation."""
    if rounding == "truncate" and interpolation.startswith("pillow"):
        mode = transforms.InterpolationMode(interpolation.split("-")[1])
        return transforms.Resize(size, interpolation=mode)(image)
    width, height = image.size
    long_edge = int(size / min(height, width) * max(height, width) + 0.5)
    if rounding == "truncate":
        long_edge = int(size * max(height, width) / min(height, width))
    target = (size, long_edge) if height < width else (long_edge, size)
    return resize(image, *target, interpolation)


def center_crop(image, crop, offset):
    if offset == "half-to-even":
        return transforms.CenterCrop(crop)(image)
    top, left = (int((edge - crop) * 0.5) for edge in (image.height, image.width))
    return image.crop((left, top, left + crop, top + crop))


def evaluate(image, size, crop, interpolation, rounding, offset):
    return center_crop(short_edge(image, size, interpolation, rounding), crop, offset)


def golden_line(name, channels, operation, image):
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    result = f"{image.height} {image.width} {pixels.shape[2]} {zlib.crc32(pixels.tobytes()):08x}"
    return f"{name} {channels} {operation} | {result}\n"


def make_images():
    """Noise, where every wrong weight shows; one pixel high, wide and both; extremes, where cubic sums overshoot."""
    for name, height, width in (("noise", 37, 51), ("row", 1, 19), ("column", 23, 1), ("pixel", 1, 1)):
        Image.fromarray(RANDOM.randint(0, 256, (height, width, 3)).astype(np.uint8)).save(FOLDER / f"{name}.png")
    y, x = np.mgrid[0:150, 0:202]
    checks = ((x // 7 + y // 5) % 2 * 255).astype(np.uint8)
    Image.fromarray(np.stack([checks, 255 - checks, np.roll(checks, 3, 1)], -1)).save(FOLDER / "checks.png")


def resize_lines(name, channels, image):
    height, width = image.height, image.width
    sizes = [(height * 2, width * 3), (height * 2 + 1, width), (height, width * 2 + 3), (13, 29), (1, 1), (2, 64),
             (90, 3), (max(1, height // 2), max(1, width // 2)), (max(1, height * 2 // 3), max(1, width * 3 // 4)),
             (height, width)]
    sizes += [(RANDOM.randint(1, 120), RANDOM.randint(1, 120)) for _ in range(6)]
    return [golden_line(name, channels, f"resize {interpolation} {h} {w}", resize(image, h, w, interpolation))
            for interpolation in FILTERS for h, w in sizes]


def evaluation_lines(name, channels, image):
    lines = []
    for interpolation in FILTERS:
        for rounding in ("truncate", "half-up"):
            for offset in ("half-to-even", "floor"):
                for size, crop in ((256, 224), (232, 224), (61, 50)):
                    words = f"eval {size} {crop} {interpolation} {rounding} {offset}"
                    lines.append(golden_line(name, channels, words,
                                             evaluate(image, size, crop, interpolation, rounding, offset)))
    return lines


def halved_lines():
    """Exact halves of the long edge and of the crop's margin, where the roundings differ."""
    lines = []
    for height, width, size, crop in ((100, 125, 50, 33), (128, 129, 64, 31), (150, 202, 75, 60), (202, 150, 75, 62)):
        image = Image.open(FOLDER / "checks.png").convert("RGB").resize((width, height), Image.BILINEAR)
        for rounding in ("truncate", "half-up"):
            for offset in ("half-to-even", "floor"):
                words = f"resized_eval {height} {width} {size} {crop} opencv-bilinear {rounding} {offset}"
                lines.append(golden_line("checks.png", 3, words,
                                         evaluate(image, size, crop, "opencv-bilinear", rounding, offset)))
    return lines


def with_orientation(orientation, little_endian):
    """exif_rotated.jpg with EXIF data of another orientation, as tests/test_data_orientation.cpp writes it."""
    order = "<" if little_endian else ">"
    tiff = (b"II" if little_endian else b"MM") + struct.pack(order + "HI", 42, 8)
    tiff += struct.pack(order + "HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    jpeg = (FIXTURES / "images" / "exif_rotated.jpg").read_bytes()
    payload = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def orientation_lines():
    lines = []
    for orientation in range(10):  # 0 and 9 mean nothing
        for little_endian in (False, True):
            image = Image.open(io.BytesIO(with_orientation(orientation, little_endian)))
            turned = ImageOps.exif_transpose(image).convert("RGB")
            lines.append(golden_line("exif_rotated.jpg", 3, f"orientation {orientation} {int(little_endian)}", turned))
    return lines


def network_inputs(image):
    """(H,W,C) float32, as Megvii's and tensorpack's programs feed their networks, of a small crop."""
    size, crop = 40, 28
    megvii = evaluate(image, size, crop, "opencv-bilinear", "half-up", "half-to-even")
    tensorpack = evaluate(image, size, crop, "opencv-bicubic", "half-up", "floor")
    mean = np.asarray([0.485, 0.456, 0.406][::-1], np.float32) * 255
    std = np.asarray([0.229, 0.224, 0.225][::-1], np.float32) * 255
    bgr = np.asarray(tensorpack, np.float32)[..., ::-1]
    return {"megvii": np.ascontiguousarray(np.asarray(megvii, np.float32)[..., ::-1]),
            "tensorpack": np.ascontiguousarray((bgr - mean) / std)}


def photograph_lines(paths):
    lines = []
    for interpolation, rounding, offset in (("pillow-bilinear", "truncate", "half-to-even"),
                                            ("pillow-bicubic", "truncate", "half-to-even"),
                                            ("opencv-bilinear", "half-up", "half-to-even"),
                                            ("opencv-bicubic", "half-up", "floor")):
        crc = 0
        for path in paths:
            crop = evaluate(Image.open(path).convert("RGB"), 256, 224, interpolation, rounding, offset)
            crc = zlib.crc32(np.asarray(crop).tobytes(), crc)
        lines.append(f"{interpolation} {rounding} {offset} {len(paths)} {crc:08x}\n")
    return lines


def print_differences(paths):
    """Mean and largest absolute difference from torchvision's pixels, over whole resized images."""
    means, largest = {name: [] for name in FILTERS}, {name: 0 for name in FILTERS}
    sizes = offsets = 0
    for path in paths:
        image = Image.open(path).convert("RGB")
        first = np.asarray(short_edge(image, 256, "pillow-bilinear", "truncate")).astype(int)
        for name in FILTERS:
            difference = np.abs(np.asarray(resize(image, *first.shape[:2], name)).astype(int) - first)
            means[name].append(difference.mean())
            largest[name] = max(largest[name], difference.max())
        half_up = short_edge(image, 256, "pillow-bilinear", "half-up")
        sizes += half_up.size != (first.shape[1], first.shape[0])
        margin = max(first.shape[:2]) - 224
        offsets += int(round(margin / 2)) != margin // 2
    print(f"{len(paths)} images; another size with half-up: {sizes}; another crop offset with floor: {offsets}")
    for name in FILTERS:
        print(f"{name}: mean {np.mean(means[name]):.2f}, worst image {np.max(means[name]):.2f}, "
              f"worst pixel {largest[name]}")


def main():
    if len(sys.argv) > 1:
        paths = sorted(path for path in pathlib.Path(sys.argv[1]).rglob("*") if path.is_file())
        (FOLDER / "photographs.txt").write_text("".join(photograph_lines(paths[::10])))
        print_differences(paths)
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.png"):
        old.unlink()
    make_images()
    lines = halved_lines()
    for path in sorted(FOLDER.glob("*.png")) + [FIXTURES / "images" / "rgb_420.jpg"]:
        for channels, mode in ((3, "RGB"), (1, "L")):
            lines += resize_lines(path.name, channels, Image.open(path).convert(mode))
    for name in ("landscape.jpg", "portrait.jpg"):
        image = Image.open(FIXTURES / "images" / name).convert("RGB")
        lines += evaluation_lines(name, 3, image)
    (FOLDER / "goldens.txt").write_text("".join(lines))
    (FOLDER / "orientations.txt").write_text("".join(orientation_lines()))
    np.savez_compressed(FOLDER / "inputs.npz", **network_inputs(Image.open(FIXTURES / "images" / "landscape.jpg")))


if __name__ == "__main__":
    main()
