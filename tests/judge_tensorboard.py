"""Reads event files of Riffle's with Python's tensorboard package and compares them with what was written.

Usage: judge_tensorboard.py EXCHANGE_FOLDER RUN_FOLDER (see check_tensorboard_python.sh)
"""
import json
import os
import sys

import tensorboard.version
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

EVERYTHING = {"scalars": 0, "histograms": 0, "images": 0, "compressedHistograms": 0, "tensors": 0}


def load(folder):
    events = EventAccumulator(folder, size_guidance=EVERYTHING)
    events.Reload()
    return events


def check_exchange(folder):
    events = load(folder)
    # Steps 11 to 20 of the first start are forgotten, for the second repeats them; step 16 of that was cut off.
    loss = [(event.step, event.value) for event in events.Scalars("train/loss") if event.step not in (7,)]
    expected = [(step, 100.0 + step) for step in range(1, 11) if step != 7] + [(step, float(step)) for step in range(11, 16)]
    assert loss == expected, loss
    assert [event.value for event in events.Scalars("val/top1")] == [0.25]
    histograms = events.Histograms("weights/fc")
    assert [event.step for event in histograms] == [8, 15], histograms
    for event in histograms:
        value = event.histogram_value
        assert (value.min, value.max, value.num, value.sum, value.sum_squares) == (-1, 2, 4, 1, 5), value
        assert sum(value.bucket) == 4 and len(value.bucket) == len(value.bucket_limit)
        assert all(a < b for a, b in zip(value.bucket_limit, value.bucket_limit[1:]))
    (image,) = events.Images("train/images")
    assert (image.step, image.width, image.height) == (9, 6, 4), image
    assert image.encoded_image_string.startswith(b"\x89PNG"), image


def check_run(folder):
    events = load(folder)
    tags = events.Tags()
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    train = [record for record in records if record["type"] == "train"]
    evaluations = [record for record in records if record["type"] == "val"]
    for group, of in (("train", train), ("val", evaluations)):
        for key in ("loss", "top1", "top5"):
            read = [(event.step, event.value) for event in events.Scalars(f"{group}/{key}")]
            assert len(read) == len(of) > 0, (group, key, read)
            for (step, value), record in zip(read, of):
                assert step == record["step"] and abs(value - record[key]) <= 1e-6 * abs(record[key]), (group, key, value)
    for tag in ("train/lr", "train/grad_norm", "train/images_per_s", "train/data_wait_ms", "memory/process_peak_bytes"):
        assert tag in tags["scalars"], tags["scalars"]
    weights = [tag for tag in tags["histograms"] if tag.startswith("weights/")]
    gradients = [tag for tag in tags["histograms"] if tag.startswith("gradients/")]
    assert len(weights) == len(gradients) > 10, (weights, gradients)
    for tag in weights + gradients:
        assert len(events.Histograms(tag)) == len(evaluations), tag
    assert any(event.histogram_value.max > 0 for event in events.Histograms("gradients/fc.weight"))
    assert sorted(tags["images"]) == ["train/images", "weights/first_layer"], tags["images"]
    return len(tags["scalars"]), len(weights) + len(gradients)


check_exchange(sys.argv[1])
scalars, histograms = check_run(sys.argv[2])
print(f"Python's tensorboard {tensorboard.version.VERSION} read a run's {scalars} scalars, {histograms} histograms and "
      "2 images, and a resumed run without its repeated steps")
