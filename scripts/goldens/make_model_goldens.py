#!/usr/bin/env python3
"""Makes the model goldens: logits, losses, gradients and updated weights of PyTorch, for tests/test_model_golden.cpp.

Without options: small random networks, one file a dialect, into tests/fixtures/models (committed). With --shared DIR:
converts the full-size goldens found below DIR into Riffle's tensor names, into --out. See docs/goldens.md.
"""

import argparse
import copy
import itertools
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

from model_dialects import DIALECTS, make_network, network_input, tensors_of

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

# Halves of odd size, and stage entries whose two branches differ in width.
REPEATS = [2, 3, 2]
CHANNELS = [8, 18, 42, 90, 64]  # stem, stages 2 to 4, head
CLASSES = 10

# The last batch has odd sizes on the way down. Decay is large so that 3 steps tell which parameters it touches.
BATCH_SIZES = [(4, 64, 64), (4, 64, 64), (4, 51, 37)]
LEARNING_RATE = 0.01
MOMENTUM = 0.9
NESTEROV = {"torchvision": False, "megvii": True, "tensorpack": True}
WEIGHT_DECAY = 0.01
LABEL_SMOOTHING = 0.1

CLEARANCE = 4
FIRST_SEED = {"torchvision": 2, "megvii": 29, "tensorpack": 22}  # where the search starts; these pass


def draw_images(generator, count, height, width):
    """Coarse coloured patches with noise, so that images of a batch differ in more than noise."""
    patches = torch.rand(count, 3, 4, 4, generator=generator)
    smooth = F.interpolate(patches, size=(height, width), mode="bilinear", align_corners=False)
    noise = torch.rand(count, 3, height, width, generator=generator)
    return (255 * (0.8 * smooth + 0.2 * noise)).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def initialise(network, generator, calibration):
    """Random weights; running statistics near those of `calibration`. All values are exact in float32."""
    def normal(like, scale):
        return scale * torch.randn(like.shape, generator=generator, dtype=torch.float64)

    def uniform(like, low, high):
        return low + (high - low) * torch.rand(like.shape, generator=generator, dtype=torch.float64)

    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.copy_(normal(parameter, (2 / parameter[0].numel()) ** 0.5))
            else:
                parameter.copy_(normal(parameter, 0.1))
        for norm in norms:
            norm.weight.copy_(uniform(norm.weight, 0.5, 1.5))
            norm.bias.copy_(normal(norm.bias, 0.2))
            norm.momentum = 1.0
        network.train()
        network(calibration)
        for norm in norms:
            norm.momentum = 0.1
            deviation = norm.running_var.sqrt()
            norm.running_mean += normal(deviation, 0.2) * deviation
            norm.running_var *= uniform(norm.running_var, 0.7, 1.4)
        for tensor in tensors_of(network).values():
            tensor.copy_(tensor.float().double())


def evaluate(network, x):
    network.eval()
    with torch.no_grad():
        return network(x)


def train(network, dialect, batches):
    """SGD over the batches -> (losses, first gradients and what changed; the input of every ReLU of every step)."""
    relu_inputs = []
    hooks = [module.register_forward_pre_hook(lambda _, inputs: relu_inputs.append(inputs[0].detach().clone()))
             for module in network.modules() if isinstance(module, torch.nn.ReLU)]
    named = dict(network.named_parameters())
    before = {name: value.detach().clone() for name, value in named.items()}
    optimiser = torch.optim.SGD(
        [{"params": [p for p in named.values() if p.dim() > 1], "weight_decay": WEIGHT_DECAY},
         {"params": [p for p in named.values() if p.dim() == 1], "weight_decay": 0.0}],
        lr=LEARNING_RATE, momentum=MOMENTUM, nesterov=NESTEROV[dialect])
    dtype = network.fc.weight.dtype
    results = {}
    network.train()
    for step, (images, labels) in enumerate(batches):
        optimiser.zero_grad()
        loss = F.cross_entropy(network(network_input(dialect, images).to(dtype)), torch.from_numpy(labels).long(),
                               label_smoothing=LABEL_SMOOTHING)
        loss.backward()
        results[f"batch{step}/loss"] = loss.detach()
        if step == 0:
            results.update({f"gradient/{name}": parameter.grad.clone() for name, parameter in named.items()})
        optimiser.step()
    for hook in hooks:
        hook.remove()
    results.update({f"update/{name}": parameter.detach() - before[name] for name, parameter in named.items()})
    results.update({f"running/{name}": value for name, value in network.named_buffers()
                    if not name.endswith("num_batches_tracked")})
    return results, relu_inputs


def signs_are_clear(exact, rounded):
    """True if float32 cannot flip a ReLU: with few pixels in a batch, one flip would change a gradient by per cents.

    In every channel, the input nearest to zero must be CLEARANCE times the largest error of PyTorch's own float32 run.
    """
    return all((x.abs().amin((0, 2, 3)) > CLEARANCE * (x - y).abs().amax((0, 2, 3))).all()
               for x, y in zip(exact, rounded))


def draw_problem(dialect, seed):
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for count, height, width in BATCH_SIZES:
        labels = torch.randint(CLASSES, (count,), generator=generator).int().numpy()
        batches.append((draw_images(generator, count, height, width), labels))
    network = make_network(dialect, REPEATS, CHANNELS, CLASSES)
    initialise(network, generator, network_input(dialect, batches[0][0]))
    return network, batches


def small_golden(dialect):
    for seed in itertools.count(FIRST_SEED[dialect]):
        network, batches = draw_problem(dialect, seed)
        golden = {"config/stem_stages_head": np.array(CHANNELS, np.int32),
                  "config/stage_repeats": np.array(REPEATS, np.int32),
                  "config/classes": np.array(CLASSES, np.int32),
                  "config/lr": np.float64(LEARNING_RATE), "config/momentum": np.float64(MOMENTUM),
                  "config/nesterov": np.array(NESTEROV[dialect], np.int32),
                  "config/weight_decay": np.float64(WEIGHT_DECAY),
                  "config/label_smoothing": np.float64(LABEL_SMOOTHING)}
        golden.update({f"initial/{name}": value.clone() for name, value in tensors_of(network).items()})
        for step, (images, labels) in enumerate(batches):
            golden[f"batch{step}/images"] = images
            golden[f"batch{step}/labels"] = labels
            golden[f"batch{step}/eval_logits"] = evaluate(network, network_input(dialect, images))
        _, rounded = train(copy.deepcopy(network).float(), dialect, batches)
        results, exact = train(network, dialect, batches)
        if signs_are_clear(exact, rounded):
            print(f"{dialect}: seed {seed}")
            return {**golden, **results}


def save(path, golden):
    """Tensors computed in float64 are stored as float32."""
    np.savez_compressed(path, **{name: value.float().numpy() if torch.is_tensor(value) else value
                                 for name, value in golden.items()})
    print(f"{path}: {len(golden)} arrays, {path.stat().st_size:,} bytes")


# --- full-size goldens ----------------------------------------------------------------------------------------------


def megvii_name(name):
    """module.features.5.branch_main.0.weight -> stage3.1.branch_main.0.weight; units are 4, 8 and 4 a stage."""
    name = name.removeprefix("module.")
    for theirs, ours in {"first_conv.": "conv1.", "conv_last.": "conv5.", "classifier.0.": "fc."}.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    _, unit, rest = name.split(".", 2)
    stage, first = max((s, f) for s, f in ((2, 0), (3, 4), (4, 12)) if f <= int(unit))
    return f"stage{stage}.{int(unit) - first}.{rest}"


def tensorpack_name(name):
    """stage2/block0/conv1/bn/mean/EMA -> stage2.0.branch_main.1.running_mean"""
    numbers = {"conv1": ("branch_main", 0, 1), "dconv": ("branch_main", 3, 4), "conv2": ("branch_main", 5, 6),
               "shortcut_dconv": ("branch_proj", 0, 1), "shortcut_conv": ("branch_proj", 2, 3)}
    leaves = {"W": "weight", "b": "bias", "gamma": "weight", "beta": "bias", "mean": "running_mean",
              "variance": "running_var"}
    parts = name.removesuffix("/EMA").replace("dconv_bn/", "dconv/bn/").split("/")
    leaf = leaves[parts[-1]]
    if parts[0] == "linear":
        return f"fc.{leaf}"
    if not parts[0].startswith("stage"):
        return f"{parts[0]}.{int('bn' in parts)}.{leaf}"
    branch, convolution, norm = numbers[parts[2]]
    return f"{parts[0]}.{parts[1].removeprefix('block')}.{branch}.{norm if 'bn' in parts else convolution}.{leaf}"


def tensorpack_layout(name, value):
    """HWIO -> OIHW; a depthwise filter is (H,W,C,1) -> (C,1,H,W); the classifier (I,O) -> (O,I)."""
    value = torch.from_numpy(value)
    if name.endswith("dconv/W"):
        return value.permute(2, 3, 0, 1)
    return value.permute(3, 2, 0, 1) if value.dim() == 4 else value.t() if value.dim() == 2 else value


def read_full_size(folder):
    """dialect -> (file stem, channels, tensors by Riffle's names)"""
    torchvision = torch.load(folder / "torchvision-x1_0.pth", map_location="cpu")
    megvii = torch.load(folder / "megvii-0.5x.pth.tar", map_location="cpu")["state_dict"]
    tensorpack = np.load(folder / "tensorpack-0.5x.npz")
    small = [24, 48, 96, 192, 1024]
    return {
        "torchvision": ("torchvision-x1_0", [24, 116, 232, 464, 1024], dict(torchvision)),
        "megvii": ("megvii-0.5x", small, {megvii_name(name): value for name, value in megvii.items()}),
        "tensorpack": ("tensorpack-0.5x", small, {
            tensorpack_name(name): tensorpack_layout(name, tensorpack[name]) for name in tensorpack.files}),
    }


def convert_full_size(shared, out):
    folder = shared / "data" / "goldens"
    images = np.load(folder / "inputs-rgb-uint8-nhwc.npz")["images"]
    for dialect, (stem, channels, tensors) in read_full_size(folder).items():
        tensors = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
        network = make_network(dialect, [4, 8, 4], channels, 1000)
        counters = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
        network.load_state_dict({**tensors, **counters})  # strict: every name and shape must fit
        logits = np.load(folder / f"{stem}-logits.npz")["logits"]
        ours = evaluate(network, network_input(dialect, images)).numpy()
        error = np.abs(ours - logits).max() / np.abs(logits).max()
        print(f"{stem}: definitions of model_dialects.py against the stored logits: relative error {error:.1e}")
        if error > 1e-5:
            raise SystemExit(f"{stem}: the network of model_dialects.py does not reproduce the stored logits")
        golden = {"config/stem_stages_head": np.array(channels, np.int32),
                  "config/stage_repeats": np.array([4, 8, 4], np.int32), "config/classes": np.array(1000, np.int32),
                  "batch0/images": images, "batch0/eval_logits": logits}
        golden.update({f"initial/{name}": value for name, value in tensors.items()})
        save(out / f"{dialect}.npz", golden)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=pathlib.Path, metavar="DIR",
                        help="convert the full-size goldens of DIR/data/goldens instead")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR",
                        help="default: tests/fixtures/models; needed with --shared")
    arguments = parser.parse_args()
    if arguments.shared and not arguments.out:
        parser.error("--shared needs --out DIR (a folder outside the repository, e.g. in the build folder)")
    out = arguments.out or REPOSITORY / "tests" / "fixtures" / "models"
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the order of additions, and so the last bit, does not depend on the machine's cores
    if arguments.shared:
        convert_full_size(arguments.shared, out)
    else:
        for dialect in DIALECTS:
            save(out / f"{dialect}.npz", small_golden(dialect))


if __name__ == "__main__":
    main()
