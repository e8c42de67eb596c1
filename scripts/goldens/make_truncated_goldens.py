#!/usr/bin/env python3
"""Checksums of the pixels that Pillow gives for files that end early, with ImageFile.LOAD_TRUNCATED_IMAGES = True: of every
picture in tests/fixtures/images, or of those in FOLDER, cut after every STEP bytes.

    python3 scripts/goldens/make_truncated_goldens.py [FOLDER STEP] > tests/fixtures/images/truncated.txt

Each line: file, bytes that are left, CRC-32 of the RGB pixels, or "refused" where Pillow cannot open what is left."""
import io
import sys
import zlib
from pathlib import Path

import PIL
from PIL import Image, ImageFile, features

ImageFile.LOAD_TRUNCATED_IMAGES = True


def checksum(data):
    try:
        with Image.open(io.BytesIO(data)) as image:
            return f"{zlib.crc32(image.convert('RGB').tobytes()):08x}"
    except (OSError, SyntaxError):
        return "refused"


folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "tests/fixtures/images"
step = int(sys.argv[2]) if len(sys.argv) > 2 else None
print(f"# Pillow {PIL.__version__} (libjpeg-turbo {features.version('libjpeg_turbo')}), LOAD_TRUNCATED_IMAGES; "
      "made by scripts/goldens/make_truncated_goldens.py")
for path in sorted(folder.rglob("*")):
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        continue
    data = path.read_bytes()
    # Small files at more places: in every kind of segment.
    every = step or (512 if len(data) > 8000 else 128 if len(data) > 2000 else 31)
    for size in range(every, len(data), every):
        print(path.relative_to(folder), size, checksum(data[:size]))
