"""Loads checkpoints as PyTorch, numpy and safetensors do and compares them bit for bit; see check_pytorch.sh."""
import argparse
import collections
import sys
import zipfile

import numpy
import torch


def load_pth(path):
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, collections.OrderedDict):
        sys.exit(f"{path}: a {type(state).__name__}, expected an OrderedDict")
    if zipfile.is_zipfile(path):  # not so for PyTorch's legacy files, which are of use to compare with
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            if damaged:
                sys.exit(f"{path}: {damaged} has a wrong checksum")
    return {name: value.detach() for name, value in state.items()}


def load_npz(path):
    with numpy.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(numpy.array(arrays[name])) for name in arrays.files}


def load_safetensors(path):
    from safetensors.torch import load_file
    return load_file(path)


LOADERS = {".pth": load_pth, ".pt": load_pth, ".npz": load_npz, ".safetensors": load_safetensors}


def load(path):
    for suffix, loader in LOADERS.items():
        if path.endswith(suffix):
            return loader(path)
    sys.exit(f"{path}: expected a file that ends in one of {', '.join(LOADERS)}")


def bits(tensor):
    tensor = tensor.contiguous()
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy().tobytes()


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)


def compare(first, first_path, state, path):
    if set(first) != set(state):
        sys.exit(f"{path}: other names than {first_path}: {sorted(set(first) ^ set(state))[:5]}")
    for name, value in state.items():
        if not same(first[name], value):
            sys.exit(f"{path}: '{name}' is not that of {first_path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a model of torchvision that the weights must fit, strictly")
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    first = load(options.files[0])
    for path in options.files:
        state = load(path)
        compare(first, options.files[0], state, path)
        if options.model:
            import torchvision
            model = getattr(torchvision.models, options.model)()
            model.load_state_dict(state, strict=True)
        print(f"{path}: {len(state)} tensors" + (f", fit {options.model}" if options.model else ""))


main()
