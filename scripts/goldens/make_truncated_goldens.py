#!/usr/bin/env python3
"""Checksums of the pixels that Pillow gives for files that end early, with ImageFile.LOAD_TRUNCATED_IMAGES = True: of every
picture in tests/fixtures/images, cut at every 512th byte, small ones more often.

    python3 scripts/goldens/make_truncated_goldens.py --other OTHER > tests/fixtures/images/truncated.txt

Each line: file, bytes that are left, CRC-32 of the RGB pixels or "refused" where Pillow cannot open what is left. Incomplete
progressive pictures look different since libjpeg-turbo 3, which smooths them in another way: OTHER is what this script
printed with a Pillow on libjpeg-turbo 2, and its checksum is added where it differs. For photographs: --folder, --step.
"""
import argparse
import io
import pathlib
import zlib

import PIL
from PIL import Image, ImageFile, features

ImageFile.LOAD_TRUNCATED_IMAGES = True
FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "images"


def checksum(data):
    try:
        with Image.open(io.BytesIO(data)) as image:
            return f"{zlib.crc32(image.convert('RGB').tobytes()):08x}"
    except (OSError, SyntaxError):
        return "refused"


def lines(folder, step):
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
            continue
        data = path.read_bytes()
        every = step or (512 if len(data) > 8000 else 128 if len(data) > 2000 else 31)
        for size in range(every, len(data), every):
            yield path.relative_to(folder), size, checksum(data[:size])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=pathlib.Path, default=FIXTURES)
    parser.add_argument("--step", type=int)
    parser.add_argument("--other", type=pathlib.Path)
    arguments = parser.parse_args()
    header, others = "", {}
    if arguments.other:
        first, *rest = arguments.other.read_text().splitlines()
        header = "; where there are two, the second is of " + first[2:first.index(";")]
        others = dict(line.rsplit(" ", 1) for line in rest)
    print(f"# Pillow {PIL.__version__} (libjpeg-turbo {features.version('libjpeg_turbo')}){header}; "
          "made by scripts/goldens/make_truncated_goldens.py")
    for path, size, pixels in lines(arguments.folder, arguments.step):
        other = others.get(f"{path} {size}", pixels)
        print(path, size, pixels, *([other] if other != pixels else []))


if __name__ == "__main__":
    main()
