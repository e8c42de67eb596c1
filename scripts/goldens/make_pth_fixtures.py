#!/usr/bin/env python3
"""Makes tests/fixtures/pth: small files of torch.save that cover what checkpoints hold, and hostile ones.

Run with Debian's python3-torch (1.13); the newest PyTorch writes the same structures, which scripts/check_pytorch.sh
checks in the other direction.

    python3 scripts/goldens/make_pth_fixtures.py tests/fixtures/pth
    python3 scripts/goldens/make_pth_fixtures.py tests/fixtures/pth newest    # with the newest PyTorch (2.15)
"""
import collections
import os
import pickle
import struct
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


class Python2Dict(dict):
    """Pickled as Python 2 pickles an OrderedDict: a call with a list of [key, value]."""

    def __reduce__(self):
        return collections.OrderedDict, ([[key, value] for key, value in self.items()],)


class OldStorage(list):
    """What torch 0.3 refers to: a storage, or a part of one (view: key, offset and size of the part)."""

    def __init__(self, key, values, view=None):
        super().__init__(values)
        self.key, self.view = key, view


class OldTensor:
    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return torch._utils._rebuild_tensor, self.arguments


def save_as_torch_0_3(name):
    """Five pickles and the storages, tensors without requires_grad (_rebuild_tensor), a view of a storage."""
    whole = OldStorage("94", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    part = OldStorage("94", whole, view=("95", 2, 3))
    tensors = Python2Dict(whole=OldTensor(whole, 0, (2, 3), (3, 1)), part=OldTensor(part, 1, (2,), (1,)))
    with open(path(name), "wb") as file:
        system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
        for value in 0x1950A86A20F9469CFC6C, 1001, system:
            pickle.dump(value, file, protocol=2)
        pickler = pickle.Pickler(file, protocol=2)
        pickler.persistent_id = lambda value: (
            ("storage", torch.FloatStorage, value.key, "cpu", len(value), value.view)
            if isinstance(value, OldStorage) else None)
        pickler.dump(tensors)
        pickle.dump(["94"], file, protocol=2)
        file.write(struct.pack("<q6f", 6, *whole))


def foreign():
    """Types that a reader of weights need not know, before and after one that it does."""
    return collections.OrderedDict(
        c=torch.ones(2, dtype=torch.complex64),
        q=torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        s=torch.eye(2).to_sparse(),
        w=torch.tensor([1.5, 2.5]))


def newest():
    """What PyTorch 1.13 lacks: types without storages of their own, rebuilt by _rebuild_tensor_v3."""
    state = collections.OrderedDict(
        u16=torch.tensor([1, 65535], dtype=torch.uint16),
        u32=torch.tensor([[0, 1], [2, 4294967295]], dtype=torch.uint32).t(),
        u64=torch.tensor([1 << 63], dtype=torch.uint64),
        e4m3=torch.tensor([1.0, -2.0]).to(torch.float8_e4m3fn),
        e5m2=torch.tensor([1.0, -2.0]).to(torch.float8_e5m2),
        f32=torch.nn.Parameter(torch.tensor([1.5, 2.5])),
        bf16=torch.tensor([1.0, -2.0], dtype=torch.bfloat16))
    torch.save(state, path("newest.pth"))
    torch.save(state, path("newest_legacy.pth"), _use_new_zipfile_serialization=False)
    model = torch.nn.Sequential(collections.OrderedDict(fc=torch.nn.Linear(1, 1)))
    with torch.no_grad():
        model.fc.weight.fill_(3.0)
        model.fc.bias.fill_(4.0)
    torch.save({"model": torch.compile(model).state_dict(), "dtype": torch.float32}, path("compiled.pth"))


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


def lightning():
    """The entries that PyTorch Lightning's Trainer saves of a LightningModule whose member `model` is compiled."""
    weights = collections.OrderedDict(("model._orig_mod." + key, value) for key, value in Tiny().state_dict().items())
    return {"epoch": 3, "global_step": 120, "pytorch-lightning_version": "2.5.0", "state_dict": weights,
            "loops": {"fit_loop": {"state_dict": {}}}, "callbacks": {"ModelCheckpoint": {"best_k_models": {}}},
            "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}],
            "lr_schedulers": [{"last_epoch": 3}], "hparams_name": "kwargs", "hyper_parameters": {"lr": 0.1}}


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
    torch.save(lightning(), path("lightning.ckpt"))
    torch.save(Python2Dict(a=torch.ones(1), b=torch.zeros(2)), path("python2.pth"))
    save_as_torch_0_3("torch_0_3.pth")
    torch.save(foreign(), path("foreign.pth"))
    torch.save(foreign(), path("foreign_legacy.pth"), _use_new_zipfile_serialization=False)
    torch.serialization.get_source_lines_and_file = lambda cls: ([""], 0, "source.py")  # not PyTorch's source itself
    torch.save(Tiny(), path("module_legacy.pt"), _use_new_zipfile_serialization=False)
    torch.save(Tiny(), path("module.pt"))
    torch.jit.save(torch.jit.script(Tiny()), path("script.pt"))
    # Without the program that PyTorch generates, which nobody reads here.
    with zipfile.ZipFile(path("script.pt")) as archive:
        entries = {name: archive.read(name) for name in archive.namelist() if "/code/" not in name}
    with zipfile.ZipFile(path("script.pt"), "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
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


if "newest" in sys.argv[2:]:
    newest()
else:
    main()
