#!/usr/bin/env python3
"""Makes tests/fixtures/augment: what torchvision's transforms make of Pillow images, and how often.

goldens.txt:   IMAGE HEIGHT WIDTH CHANNELS OPERATION ARGUMENTS | CRC32 of the resulting pixels. The images are formulas,
               which tests/test_augment_golden.cpp has too.
strengths.txt: SPACE OPERATION BINS HEIGHT WIDTH | the strengths; and AutoAugment's policy for ImageNet.
draws.txt:     TRANSFORM ARGUMENTS QUANTITY | VALUE:PROBABILITY pairs, the share of draws that are at most VALUE.
Needs torchvision (made with 0.29.2 on torch 2.15.0) and Pillow (13.0.0), from PyPI. Run it from anywhere; only the last
file is the work of chance, with a fixed seed.
"""
import pathlib
import zlib

import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode, autoaugment
from torchvision.transforms import functional as F

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "augment"
SAMPLING = {"nearest": InterpolationMode.NEAREST, "bilinear": InterpolationMode.BILINEAR}
SPACES = {
    "AutoAugment": lambda bins, size: autoaugment.AutoAugment()._augmentation_space(bins, size),
    "RandAugment": lambda bins, size: autoaugment.RandAugment()._augmentation_space(bins, size),
    "TrivialAugmentWide": lambda bins, size: autoaugment.TrivialAugmentWide()._augmentation_space(bins),
}


WIDEST = {"ShearX": 0.99, "ShearY": 0.99, "TranslateX": 32, "TranslateY": 32, "Rotate": 135, "Brightness": 0.99,
          "Color": 0.99, "Contrast": 0.99, "Sharpness": 0.99}  # of TrivialAugmentWide


def noise(height, width, channels):
    values, state = [], 12345
    for _ in range(height * width * channels):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append(state >> 24)
    return np.array(values, np.uint8).reshape(height, width, channels)


def smooth(height, width, channels):
    y, x, c = np.mgrid[0:height, 0:width, 0:channels]
    return (40 + (3 * x + 2 * y + 50 * c + x * y // 16) % 170).astype(np.uint8)


def flat(height, width, channels):
    return (np.zeros((height, width, channels)) + [90, 140, 17][:channels]).astype(np.uint8)


def cube(height, width, channels):
    """Every colour once."""
    colours = np.arange(height * width, dtype=np.uint32)
    return np.stack([colours >> 16, colours >> 8 & 255, colours & 255], -1).astype(np.uint8).reshape(height, width, channels)


def apply(image, name, arguments):
    if name == "op":
        operation, magnitude, sampling, fill = arguments
        return autoaugment._apply_op(image, operation, float(magnitude), SAMPLING[sampling], int(fill))
    numbers = [float(a) for a in arguments if a not in SAMPLING]
    if name == "translate":
        return F.affine(image, 0.0, [int(v) for v in numbers[:2]], 1.0, [0.0, 0.0], SAMPLING[arguments[2]], numbers[2])
    return {
        "brightness": F.adjust_brightness,
        "contrast": F.adjust_contrast,
        "saturation": F.adjust_saturation,
        "sharpness": F.adjust_sharpness,
        "hue": F.adjust_hue,
        "gray": lambda i: F.rgb_to_grayscale(i, 3 if i.mode == "RGB" else 1),
        "flip": F.hflip,
        "resize": lambda i, edge: F.resize(i, int(edge)),
        "center_crop": lambda i, edge: F.center_crop(i, int(edge)),
    }[name](image, *numbers)


def cases():
    photos = [("noise", 37, 53, 3), ("smooth", 48, 48, 3), ("smooth", 31, 29, 1)]
    odd = [("flat", 5, 4, 3), ("noise", 1, 1, 3), ("noise", 2, 7, 1), ("smooth", 3, 2, 3)]
    for image in photos + odd:
        factors = (0, 0.01, 0.6, 0.9137, 1, 1.4, 1.99, 3.7) if image in photos else (0.4, 1.6)
        for name in ("brightness", "contrast", "saturation", "sharpness"):
            for factor in factors:
                yield image, name, [factor]
        for shift in (-0.5, -0.1, 0, 0.003, 0.25, 0.5):
            yield image, "hue", [shift]
        yield image, "gray", []
        yield image, "flip", []
        for name in ("AutoContrast", "Equalize", "Invert", "Identity"):
            yield image, "op", [name, 0.0, "nearest", 0]
        for bits in range(1, 9):
            yield image, "op", ["Posterize", bits, "nearest", 0]
        for threshold in (0, 8.5, 127.5, 200, 255):
            yield image, "op", ["Solarize", threshold, "nearest", 0]
        for sampling, fill in (("nearest", 128), ("bilinear", 77)):
            for tangent in (-0.29, 0.0, 0.033):
                yield image, "op", ["ShearX", tangent, sampling, fill]
                yield image, "op", ["ShearY", tangent, sampling, fill]
            for pixels in (-3.9, 0.0, 1.0):
                yield image, "op", ["TranslateX", pixels, sampling, fill]
                yield image, "op", ["TranslateY", pixels, sampling, fill]
            for degrees in (-90.0, -4.5, 0.0, 67.5, 180.0, 270.0):
                yield image, "op", ["Rotate", degrees, sampling, fill]
    for image in photos:
        yield image, "translate", [5, -7, "bilinear", 3]
        yield image, "resize", [24]
        yield image, "center_crop", [28]
    # Every strength of the widest space, with both signs, on a square and on an oblong image: one line for all.
    for image in photos[:2]:
        for name in WIDEST:
            for sampling in SAMPLING if name.startswith(("Shear", "Translate", "Rotate")) else ["nearest"]:
                yield image, "sweep", [name, sampling]
    colours = ("cube", 4096, 4096, 3)
    for name, argument in (("hue", -0.37), ("hue", 0.1), ("saturation", 0.6), ("saturation", 1.4), ("contrast", 0.7)):
        yield colours, name, [argument]
    yield colours, "gray", []


def write_goldens():
    lines = []
    for (kind, height, width, channels), name, arguments in cases():
        pixels = globals()[kind](height, width, channels)
        image = Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels)
        if name == "sweep":
            operation, sampling = arguments
            strengths = [sign * WIDEST[operation] * step / 30 for step in range(31) for sign in (1, -1)]
            results = [apply(image, "op", [operation, strength, sampling, 0]) for strength in strengths]
        else:
            results = [apply(image, name, arguments)]
        words = " ".join(str(a) for a in (kind, height, width, channels, name, *arguments))
        crc = zlib.crc32(b"".join(np.asarray(result).tobytes() for result in results))
        lines.append(f"{words} | {crc:08x}")
    (FOLDER / "goldens.txt").write_text("\n".join(dict.fromkeys(lines)) + "\n")


def write_strengths():
    lines = []
    for space, make in SPACES.items():
        for bins in (10,) if space == "AutoAugment" else (31, 10):
            for height, width in ((176, 131),):
                for name, (magnitudes, signed) in make(bins, (height, width)).items():
                    values = magnitudes.tolist() if magnitudes.ndim else [0.0] * bins
                    sign = "signed" if signed else "unsigned"
                    lines.append(f"{space} {name} {bins} {height} {width} {sign} | " + " ".join(f"{value:.9g}" for value in values))
    for pair in autoaugment.AutoAugment().policies:
        lines.append("policy | " + " ".join(f"{name} {p} {0 if bin is None else bin}" for name, p, bin in pair))
    (FOLDER / "strengths.txt").write_text("\n".join(lines) + "\n")


def distribution(values):
    """At about nine quantiles: the value and the share of draws up to it."""
    values = np.sort(np.array(values, np.float64))
    points = []
    for part in np.arange(0.1, 1, 0.1):
        value = float(values[int(part * len(values))])
        points.append(f"{value:.9g}:{np.searchsorted(values, value, side='right') / len(values):.6f}")
    return " ".join(dict.fromkeys(points))


def write_draws(count=100_000):
    torch.manual_seed(20240607)
    lines = []
    for height, width in ((224, 224), (60, 150)):
        image = torch.zeros(3, height, width)
        drawn = [transforms.RandomErasing.get_params(image, (0.02, 0.33), (0.3, 3.3), [0.0])[:4] for _ in range(count)]
        crops = [transforms.RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(count)]
        for i, quantity in enumerate(("top", "left", "height", "width")):
            lines.append(f"random_erasing {height} {width} {quantity} | " + distribution([d[i] for d in drawn]))
            lines.append(f"random_resized_crop {height} {width} {quantity} | " + distribution([d[i] for d in crops]))
    jitter = transforms.ColorJitter(0.4, 1.5, 0.3, 0.2)
    drawn = [jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) for _ in range(count)]
    for i, quantity in enumerate(("brightness", "contrast", "saturation", "hue")):
        lines.append(f"color_jitter 0 0 {quantity} | " + distribution([d[i + 1] for d in drawn]))
        places = [d[0].tolist().index(i) for d in drawn]
        lines.append(f"color_jitter 0 0 place_of_{quantity} | " + distribution(places))
    (FOLDER / "draws.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_goldens()
    write_strengths()
    write_draws()
