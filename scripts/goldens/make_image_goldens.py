#!/usr/bin/env python3
"""Makes tests/fixtures/images: synthetic JPEG and PNG files, and what Pillow and torchvision make of them.

Each small FILE has FILE.rgb.idx.gz, the pixels of convert("RGB") as a gzipped IDX array (H,W,3). goldens.txt has one
line a result: FILE CHANNELS OPERATION ARGUMENTS | HEIGHT WIDTH CHANNELS CRC32. Needs Pillow 13.0, numpy and torchvision
(0.29) from PyPI; Debian 12's packages differ in tall images (docs/preprocessing.md) alone. Run it from anywhere; the
result is deterministic.
"""
import gzip
import pathlib
import struct
import warnings
import zlib

import numpy as np
from PIL import Image
from torchvision import transforms

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "images"
RANDOM = np.random.RandomState(20240607)


def picture(height, width, channels=3):
    """Gradients, discs and bars with sharp edges, in colours that differ between channels."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    planes = []
    for _ in range(channels):
        a, b, c = RANDOM.uniform(-1, 1, 3)
        plane = 0.5 + 0.35 * (a * x + b * y) + 0.1 * np.sin(9 * c * (x + y))
        for _ in range(4):
            cy, cx, radius = RANDOM.uniform(0, 1), RANDOM.uniform(0, 1), RANDOM.uniform(0.05, 0.25)
            plane = np.where((y - cy) ** 2 + (x - cx) ** 2 < radius**2, RANDOM.uniform(0, 1), plane)
        plane = np.where(np.abs((x - y) % 0.23) < 0.02, RANDOM.uniform(0, 1), plane)
        planes.append(plane)
    return np.clip(np.stack(planes, -1) * 255, 0, 255).astype(np.uint8)


def save_jpeg(name, pixels, mode=None, **options):
    Image.fromarray(pixels.squeeze(), mode).save(FOLDER / name, "JPEG", **options)


def replace_segment(jpeg, marker, replacement):
    """Replaces the first segment with this marker, e.g. 0xEE for APP14."""
    at = 2
    while jpeg[at + 1] != marker:
        at += 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
    end = at + 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
    return jpeg[:at] + replacement + jpeg[end:]


def adobe_segment(transform):
    return b"\xff\xee\x00\x0eAdobe" + struct.pack(">HHHB", 100, 0, 0, transform)


def make_jpegs():
    save_jpeg("gray.jpg", picture(47, 61, 1))
    save_jpeg("rgb_420.jpg", picture(77, 123), quality=90, subsampling=2)
    save_jpeg("rgb_422.jpg", picture(33, 51), quality=60, subsampling=1)
    save_jpeg("rgb_444.jpg", picture(41, 35), quality=95, subsampling=0)
    save_jpeg("progressive.jpg", picture(64, 97), progressive=True)
    save_jpeg("cmyk.jpg", picture(39, 45, 4), "CMYK")
    save_jpeg("one_pixel.jpg", picture(1, 1))
    rotated = Image.Exif()
    rotated[0x0112] = 6  # orientation, which convert() does not apply
    save_jpeg("exif_rotated.jpg", picture(16, 25), exif=rotated)
    save_jpeg("landscape.jpg", picture(375, 500), quality=70)
    save_jpeg("portrait.jpg", picture(401, 263), quality=70)
    # Colour spaces that Pillow does not write: the same coefficients under another label.
    cmyk = (FOLDER / "cmyk.jpg").read_bytes()
    (FOLDER / "ycck.jpg").write_bytes(replace_segment(cmyk, 0xEE, adobe_segment(2)))
    (FOLDER / "cmyk_unlabelled.jpg").write_bytes(replace_segment(cmyk, 0xEE, b""))
    ycc = (FOLDER / "rgb_444.jpg").read_bytes()
    (FOLDER / "rgb_coded.jpg").write_bytes(replace_segment(ycc, 0xE0, adobe_segment(0)))


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def packed_rows(samples, depth):
    """PNG scanlines (filter 0) of an (H,W,C) array of sample values."""
    rows = b""
    for row in samples.reshape(samples.shape[0], -1):
        if depth == 16:
            body = row.astype(">u2").tobytes()
        elif depth == 8:
            body = row.astype(np.uint8).tobytes()
        else:
            bits = (row[:, None] >> np.arange(depth - 1, -1, -1)) & 1
            body = np.packbits(bits.astype(np.uint8).reshape(-1)).tobytes()
        rows += b"\0" + body
    return rows


def save_png(name, samples, depth, colour_type, extra=b"", interlaced=False):
    samples = samples.reshape(samples.shape[0], samples.shape[1], -1)
    height, width = samples.shape[:2]
    data = packed_rows(samples, depth)
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        data = b"".join(packed_rows(samples[y::dy, x::dx], depth) for y, x, dy, dx in passes)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(interlaced))
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")
    (FOLDER / name).write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def make_pngs():
    gray, rgb, rgba = picture(17, 23, 1), picture(17, 23, 3), picture(17, 23, 4)
    low_bytes = RANDOM.randint(0, 256, (17, 23, 4))
    for depth in (1, 2, 4):
        save_png(f"gray_{depth}bit.png", gray >> (8 - depth), depth, 0)
    save_png("gray_8bit.png", gray, 8, 0, chunk(b"gAMA", struct.pack(">I", 30000)))
    ramp = np.arange(17 * 23).reshape(17, 23) * 2  # on both sides of 255, where Pillow saturates 16-bit gray
    save_png("gray_16bit.png", ramp, 16, 0)
    save_png("gray_alpha_8bit.png", rgba[..., :2], 8, 4)
    save_png("gray_alpha_16bit.png", rgba[..., :2].astype(int) * 256 + low_bytes[..., :2], 16, 4)
    palette = chunk(b"PLTE", RANDOM.randint(0, 256, 256 * 3).astype(np.uint8).tobytes())
    save_png("palette_8bit.png", gray, 8, 3, palette)
    short_palette = chunk(b"PLTE", RANDOM.randint(0, 256, 16 * 3).astype(np.uint8).tobytes())
    transparency = chunk(b"tRNS", bytes(range(0, 160, 10)))
    save_png("palette_4bit_transparent.png", gray >> 4, 4, 3, short_palette + transparency)
    key = chunk(b"tRNS", struct.pack(">HHH", *(int(v) for v in rgb[3, 4])))
    save_png("rgb_8bit_key.png", rgb, 8, 2, key)
    save_png("rgb_8bit_interlaced.png", rgb, 8, 2, interlaced=True)
    save_png("rgb_16bit.png", rgb.astype(int) * 256 + low_bytes[..., :3], 16, 2)
    save_png("rgba_8bit.png", rgba, 8, 6)
    save_png("rgba_16bit.png", rgba.astype(int) * 256 + low_bytes, 16, 6)
    save_png("png_named.jpg", rgba, 8, 6)


def save_idx(path, pixels):
    header = struct.pack(">IIII", 0x803, *pixels.shape)
    path.write_bytes(gzip.compress(header + pixels.tobytes(), 9, mtime=0))


def golden_line(name, channels, operation, image):
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    crc = zlib.crc32(pixels.tobytes())
    return f"{name} {channels} {operation} | {image.height} {image.width} {pixels.shape[2]} {crc:08x}\n"


def resize_goldens(name, channels, image):
    """Shrinking, enlarging, keeping an axis, whole and in boxes; torchvision crops first and then resizes."""
    width, height = image.size
    lines = []
    sizes = [(height, width), (height // 2, width // 3), (height * 2 + 1, width * 3), (height, 40), (31, width), (1, 1)]
    boxes = [(0, 0, height, width, h, w) for h, w in sizes]
    for _ in range(8):
        h, w = RANDOM.randint(1, height + 1), RANDOM.randint(1, width + 1)
        boxes.append((RANDOM.randint(0, height - h + 1), RANDOM.randint(0, width - w + 1), h, w,
                      RANDOM.randint(1, 150), RANDOM.randint(1, 150)))
    boxes.append((2, 3, height // 2, width // 2, height // 2, width // 2))
    boxes.append((2, 3, height // 2, width // 2, height // 2, 19))
    boxes.append((2, 3, height // 2, width // 2, 19, width // 2))
    for box in boxes:
        top, left, h, w, out_h, out_w = box
        part = image.crop((left, top, left + w, top + h)).resize((out_w, out_h), Image.BILINEAR)
        lines.append(golden_line(name, channels, "resize " + " ".join(map(str, box)), part))
    return lines


def transform_goldens(name, channels, image):
    lines = []
    for size in (256, 232, 50, 7):
        lines.append(golden_line(name, channels, f"short_edge {size}", transforms.Resize(size)(image)))
    for h, w in ((30, 28), (31, 29), (200, 20), (21, 601)):
        lines.append(golden_line(name, channels, f"center_crop {h} {w}", transforms.CenterCrop((h, w))(image)))
    for size, crop in ((256, 224), (232, 224), (64, 63), (40, 50)):
        pipeline = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(crop)])
        lines.append(golden_line(name, channels, f"eval {size} {crop}", pipeline(image)))
    return lines


def main():
    warnings.simplefilter("ignore")  # Pillow's, about palette transparency
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    make_jpegs()
    make_pngs()
    lines = []
    for path in sorted(FOLDER.iterdir()):
        for channels, mode in ((3, "RGB"), (1, "L")):
            image = Image.open(path).convert(mode)
            lines.append(golden_line(path.name, channels, "decode", image))
            if path.name in ("rgb_420.jpg", "gray.jpg", "landscape.jpg", "portrait.jpg", "rgb_8bit_key.png"):
                lines += resize_goldens(path.name, channels, image)
                lines += transform_goldens(path.name, channels, image)
            if channels == 3 and image.width < 200:
                save_idx(path.with_name(path.name + ".rgb.idx.gz"), np.asarray(image))
    (FOLDER / "goldens.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
