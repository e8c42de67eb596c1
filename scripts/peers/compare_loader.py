#!/usr/bin/env python3
"""Riffle's and PyTorch's loaders on the same images with the same transform, in alternation: prints a table.

Usage: compare_loader.py FOLDER [--riffle build/release/riffle] [--rounds 3] [--seconds 6] [--packed DIR] [--json FILE]
FOLDER has a folder for each class; DIR is what `riffle data pack` made of it. The transform is the standard one:
RandomResizedCrop 224, flip, ColorJitter 0.4, normalisation. Needs torch, torchvision and Pillow from PyPI.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
CONFIG = """
augment:
  transforms: [random_resized_crop, {flip: 0.5}, {color_jitter: {brightness: 0.4, contrast: 0.4, saturation: 0.4}}]
train: {batch: 64}
"""


def run_json(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def torch_rate(options, workers):
    result = run_json([sys.executable, str(HERE / "torch_loader.py"), options.folder, "--workers", str(workers),
                       "--seconds", str(options.seconds)])
    versions = ", ".join(f"{key} {result[key]}" for key in ("torch", "torchvision", "pillow", "libjpeg_turbo"))
    return {"wall": result["images_per_s"], "cpu": result["images_per_cpu_s"], "versions": versions}


def riffle_rate(options, config, source, mode, threads):
    result = run_json([options.riffle, "bench", "data", config, f"data.source={source}", f"data.decode={mode}",
                       "--threads", str(threads), "--images", str(int(options.seconds * 500)), "--json"])
    stages = result["us_per_image"]
    # PyTorch's workers normalise too.
    cpu = 1e6 / (1e6 / result["images_per_cpu_s"] + stages["normalise"])
    wall = 1e6 / (1e6 / result["images_per_s"] + stages["normalise"] / threads)
    return {"wall": wall, "cpu": cpu, "libjpeg": 1e6 / stages["libjpeg"], "stages": stages}


def measure(options, config):
    """Name of a loader -> its results, one a round."""
    rows = {}
    for _ in range(options.rounds):
        for threads in (1, 2):
            for mode in ("exact", "quick"):
                rows.setdefault(("riffle " + mode, threads), []).append(
                    riffle_rate(options, config, "folder:" + options.folder, mode, threads))
                if options.packed:
                    rows.setdefault((f"riffle {mode}, packed", threads), []).append(
                        riffle_rate(options, config, "pack:" + options.packed, mode, threads))
            rows.setdefault(("PyTorch", threads), []).append(torch_rate(options, threads))
    return rows


def show(rows):
    median = {key: {of: statistics.median(r[of] for r in results) for of in ("wall", "cpu")}
              for key, results in rows.items()}
    print(f"PyTorch: {rows[('PyTorch', 1)][0]['versions']}\n")
    print("| loader | workers | images/s | against PyTorch | per second of processor time (range) | against PyTorch |")
    print("|---|---|---|---|---|---|")
    for (name, threads), results in sorted(rows.items()):
        own, peer = median[name, threads], median["PyTorch", threads]
        cpu = [r["cpu"] for r in results]
        print(f"| {name} | {threads} | {own['wall']:.0f} | {own['wall'] / peer['wall']:.2f}x | {own['cpu']:.0f} "
              f"({min(cpu):.0f} to {max(cpu):.0f}) | {own['cpu'] / peer['cpu']:.2f}x |")
    print("\nMicroseconds an image on one core, medians; libjpeg is the full decoding of the same images, the floor:\n")
    names = [key for key in rows if key[0] != "PyTorch" and key[1] == 1]
    stages = list(rows[names[0]][0]["stages"])
    order = ["read", "decode", "resample", "augment", "copy", "normalise", "whole", "libjpeg"]
    stages = [stage for stage in order if stage in stages]
    print("| loader | " + " | ".join(stages) + " |\n|---" * 1 + "|---" * len(stages) + "|")
    for name in sorted(names):
        values = [statistics.median(r["stages"][stage] for r in rows[name]) for stage in stages]
        print(f"| {name[0]} | " + " | ".join(f"{value:.0f}" for value in values) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--riffle", default="build/release/riffle")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6, help="for each measurement")
    parser.add_argument("--packed", help="the same images, packed")
    parser.add_argument("--json", help="write every single measurement to this file")
    options = parser.parse_args()
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
        config.write(CONFIG)
        config.flush()
        rows = measure(options, config.name)
    if options.json:
        named = {f"{name}, {threads}": results for (name, threads), results in rows.items()}
        pathlib.Path(options.json).write_text(json.dumps(named, indent=1))
    show(rows)


if __name__ == "__main__":
    main()
