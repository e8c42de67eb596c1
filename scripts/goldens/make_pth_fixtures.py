#!/usr/bin/env python3
"""Makes tests/fixtures/pth: small files of torch.save that cover what checkpoints hold, and hostile ones.

Run with Debian's python3-torch (1.13); the newest PyTorch writes the same structures, which scripts/check_pytorch.sh
checks in the other direction.

    python3 scripts/goldens/make_pth_fixtures.py tests/fixtures/pth
"""
import collections
import os
import pickle
import sys
import warnings
import zipfile

import torch

warnings.filterwarnings("ignore")
FOLDER = sys.argv[1]


def path(name):
    return os.path.join(FOLDER, name)


def state_dict():
    """One tensor of each kind; tests/test_checkpoint_pth.cpp knows the values."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    return collections.OrderedDict(
        plain=base.clone(),
        transposed=base.t(),
        part=base[1:3, 2:5],
        column=base[:, 3],
        shared=base,
        expanded=torch.tensor([7.0]).expand(3, 2),
        scalar=torch.tensor(2.5),
        empty=torch.zeros(3, 0, 2),
        f64=torch.tensor([0.1, -1e300], dtype=torch.float64),
        f16=torch.tensor([1.0, -2.0], dtype=torch.float16),
        bf16=torch.tensor([1.0, -2.0], dtype=torch.bfloat16),
        i64=torch.tensor(-(1 << 40)),
        i32=torch.tensor([-3, 4], dtype=torch.int32),
        i16=torch.tensor([-300], dtype=torch.int16),
        i8=torch.tensor([-128], dtype=torch.int8),
        u8=torch.tensor([255], dtype=torch.uint8),
        flag=torch.tensor([True, False]),
        parameter=torch.nn.Parameter(torch.tensor([1.5])),
    )


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 2, 1, bias=False)
        self.bn = torch.nn.BatchNorm2d(2)
        self.inner = torch.nn.Sequential(torch.nn.Linear(2, 3))
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[[[1.0]]], [[[2.0]]]]))
            self.inner[0].weight.copy_(torch.arange(6.0).reshape(3, 2))
            self.inner[0].bias.copy_(torch.tensor([7.0, 8.0, 9.0]))

    def forward(self, x):
        return self.inner(self.bn(self.conv(x)).mean((2, 3)))


class Evil:
    """Unpickling it would run a command."""

    def __reduce__(self):
        return os.system, ("touch riffle-was-here",)


def checkpoint():
    weights = collections.OrderedDict(("module." + key, value) for key, value in Tiny().state_dict().items())
    averages = {"module.module." + key: value + 1 for key, value in Tiny().state_dict().items()}
    averages["n_averaged"] = torch.tensor(5)
    return {"epoch": 3, "arch": "tiny", "best_acc1": torch.tensor(61.5), "model": weights, "model_ema": averages,
            "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}}


def hostile_zip(name, data, storages):
    with zipfile.ZipFile(path(name), "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        for key, content in storages.items():
            archive.writestr("archive/data/" + key, content)


def tensor_pickle(offset=0, size=(2,), stride=(1,), key="0", numel=2):
    """The pickle of {'w': tensor}, written by hand so that it can lie."""
    def number(value):
        return pickle.LONG1 + bytes([8]) + value.to_bytes(8, "little", signed=True)

    def text(value):
        return pickle.BINUNICODE + len(value).to_bytes(4, "little") + value.encode()

    def numbers(values):
        return pickle.MARK + b"".join(map(number, values)) + pickle.TUPLE

    storage = pickle.MARK + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(numel)
    call = b"ctorch._utils\n_rebuild_tensor_v2\n" + pickle.MARK + storage + pickle.TUPLE + pickle.BINPERSID
    call += number(offset) + numbers(size) + numbers(stride) + pickle.NEWFALSE + pickle.NONE + pickle.TUPLE + pickle.REDUCE
    return pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + text("w") + call + pickle.SETITEM + pickle.STOP


def main():
    os.makedirs(FOLDER, exist_ok=True)
    torch.manual_seed(0)
    torch.save(state_dict(), path("zip.pth"))
    torch.save(state_dict(), path("legacy.pth"), _use_new_zipfile_serialization=False)
    torch.save(state_dict(), path("protocol4.pth"), pickle_protocol=4)
    torch.save(checkpoint(), path("checkpoint.pth.tar"))
    torch.save(Tiny(), path("module.pt"))
    torch.jit.save(torch.jit.script(Tiny()), path("script.pt"))
    torch.save({"state_dict": Tiny().state_dict(), "evil": Evil()}, path("evil.pth"))
    torch.save({"epoch": 3}, path("no_weights.pth"))
    torch.save({"state_dict": {"c": torch.ones(2, dtype=torch.complex64), "w": torch.ones(1)}}, path("complex.pth"))
    with zipfile.ZipFile(path("zip.pth")) as source, zipfile.ZipFile(path("deflated.pth"), "w", zipfile.ZIP_DEFLATED) as out:
        for entry in source.namelist():
            out.writestr(entry, source.read(entry))

    eight = bytes(8)
    hostile_zip("negative_stride.pth", tensor_pickle(offset=1, stride=(-1,)), {"0": eight})
    hostile_zip("beyond_storage.pth", tensor_pickle(offset=1), {"0": eight})
    hostile_zip("huge_offset.pth", tensor_pickle(offset=(1 << 62)), {"0": eight})
    hostile_zip("huge_extent.pth", tensor_pickle(size=(1 << 40, 1 << 40), stride=(1, 1)), {"0": eight})
    hostile_zip("exploding_view.pth", tensor_pickle(size=(1 << 20, 1 << 20), stride=(0, 0)), {"0": eight})
    hostile_zip("short_storage.pth", tensor_pickle(size=(100,), numel=100), {"0": eight})
    hostile_zip("missing_storage.pth", tensor_pickle(key="7"), {"0": eight})
    with zipfile.ZipFile(path("bomb.pth"), "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("archive/data.pkl", tensor_pickle())
        archive.writestr("archive/data/0", bytes(100 << 20))


main()
