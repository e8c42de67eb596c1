"""What Riffle's configuration (config.resolved.yaml of a run) means in PyTorch: torchvision's ShuffleNetV2, SGD with its two
parameter groups, the learning rate of a step, and the data of the two small data sets."""
import gzip
import io
import math
import os
import struct
import tarfile

import numpy as np
import torch
import torch.nn as nn
import torchvision


def make_network(model, classes):
    """model: the configuration's section. Torchvision's dialect only."""
    if model["dialect"] != "torchvision":
        raise SystemExit(f"model.dialect is {model['dialect']}; torchvision's network is the only one here")
    name = "shufflenet_v2_x" + {"0.5x": "0_5", "1.0x": "1_0", "1.5x": "1_5", "2.0x": "2_0"}[model["width"]]
    network = getattr(torchvision.models, name)(num_classes=classes)
    stem, stride, channels = network.conv1[0], model["stem_stride"], model["input_channels"]
    network.conv1[0] = nn.Conv2d(channels, stem.out_channels, 3, stride=stride, padding=1, bias=False)
    if not model["stem_max_pool"]:
        network.maxpool = nn.Identity()
    return network


def make_optimizer(network, optimizer):
    """Weight decay on filters and matrices, never on batch norm and biases, as in Riffle."""
    decayed = [p for p in network.parameters() if p.dim() > 1]
    exempt = [p for p in network.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": optimizer["weight_decay"]}, {"params": exempt, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=0.0, momentum=optimizer["momentum"], nesterov=optimizer["nesterov"])


def duration_steps(text, steps_per_epoch):
    """'14ep', '100it' or a plain number of epochs."""
    text = str(text)
    if text.endswith("it"):
        return round(float(text[:-2]))
    return round(float(text[:-2] if text.endswith("ep") else text) * steps_per_epoch)


def scaled_to_batch(schedule, batch):
    """The schedule with the rates of a step of so many images (schedule.reference_batch and batch_rule)."""
    reference = schedule["reference_batch"] or batch
    factor = {"linear": batch / reference, "sqrt": math.sqrt(batch / reference), "none": 1.0}[schedule["batch_rule"]]
    return {**schedule, "lr": factor * schedule["lr"], "final_lr": factor * schedule["final_lr"]}


# What make_network(), make_optimizer() and torch_train.py leave out, and the values with which that makes no difference.
NEUTRAL = {("augment", "mixup"): 0, ("augment", "cutmix"): 0, ("data", "repeats"): 1, ("optimizer", "accumulate"): 1,
           ("optimizer", "clip_norm"): 0, ("optimizer", "lr_multipliers"): [], ("ema", "decay"): 0,
           ("early_stopping", "patience"): 0, ("finetune", "head_only"): "0ep", ("train", "limit_steps"): 0,
           ("train", "overfit_batches"): 0, ("init", "checkpoint"): "", ("recalibrate", "duration"): "0ep"}


def refuse_what_is_not_implemented(config):
    for (section, key), neutral in NEUTRAL.items():
        value = config[section][key]
        if value != neutral:
            raise SystemExit(f"{section}.{key} is {value}, which this script does not do; expected {neutral}")


def learning_rate(schedule, step, total_steps, steps_per_epoch):
    """Of a step counted from 0, for rates scaled to the batch: linear warm-up, then cosine, linear or constant."""
    warmup = duration_steps(schedule["warmup"], steps_per_epoch)
    lr, final, factor = schedule["lr"], schedule["final_lr"], schedule["warmup_factor"]
    if step < warmup:
        return lr * (factor + (1 - factor) * (step + 1) / warmup)
    t = (step - warmup) / (total_steps - warmup)
    remaining = {"constant": lambda: 1.0, "linear": lambda: 1 - t, "cosine": lambda: 0.5 * (1 + math.cos(math.pi * t))}
    if schedule["kind"] not in remaining:
        raise SystemExit(f"schedule.kind is {schedule['kind']}; constant, linear and cosine are known here")
    return final + (lr - final) * remaining[schedule["kind"]]()


def read_idx(path):
    with gzip.open(path) as file:
        data = file.read()
    dimensions = struct.unpack_from(">" + "I" * data[3], data, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(dimensions)).reshape(dimensions)


def read_image_tar(path):
    """A tar file of CLASS/NAME images of one size: the order is by class, then by name, as in an image folder."""
    from PIL import Image
    with tarfile.open(path) as tar:
        files = {tuple(m.name.split("/")[-2:]): tar.extractfile(m).read() for m in tar if m.isfile()}
    classes = sorted({name for name, _ in files})
    keys = sorted(files)
    images = np.stack([np.asarray(Image.open(io.BytesIO(files[key])).convert("RGB")) for key in keys])
    return images, np.array([classes.index(name) for name, _ in keys], np.int64)


def read_data(source):
    """((images u8 (N,H,W,C), labels i64 (N)) of training, the same of validation). source: 'idx:DIR', or a folder with
    CIFAR-10 as cifar10-train.tar and cifar10-test.tar."""
    kind, _, path = source.rpartition(":")
    if kind == "idx":
        def part(name):
            images = read_idx(os.path.join(path, name + "-images-idx3-ubyte.gz"))
            return images[..., None], read_idx(os.path.join(path, name + "-labels-idx1-ubyte.gz")).astype(np.int64)
        return part("train"), part("t10k")
    return tuple(read_image_tar(os.path.join(path, f"cifar10-{name}.tar")) for name in ("train", "test"))


def normalise(images, normalisation):
    """u8 (N,H,W,C) tensor to f32 (N,C,H,W), channels last in memory."""
    x = images.permute(0, 3, 1, 2).float() * normalisation["scale"]
    mean = torch.tensor(normalisation["mean"]).view(1, -1, 1, 1)
    std = torch.tensor(normalisation["std"]).view(1, -1, 1, 1)
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)
