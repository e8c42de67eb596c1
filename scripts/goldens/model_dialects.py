"""ShuffleNetV2 in PyTorch, in the three published dialects, as an oracle for the C++ network.

torchvision's is torchvision's own class. The other two are written here from their description (what each unit does
with its channels, and how 3x3 windows are padded), independently of the C++ code. Parameter names are Riffle's.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.shufflenetv2 import ShuffleNetV2 as TorchvisionShuffleNetV2

DIALECTS = ("torchvision", "megvii", "tensorpack")

IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)


def same_padding(size, stride):
    """TensorFlow's SAME for a 3-wide window: (before, after)."""
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + 3 - size, 0)
    return total // 2, total - total // 2


def pad_3x3(x, stride, same, value=0.0):
    vertical = same_padding(x.shape[2], stride) if same else (1, 1)
    horizontal = same_padding(x.shape[3], stride) if same else (1, 1)
    return F.pad(x, (*horizontal, *vertical), value=value)


class Conv3x3(nn.Conv2d):
    def __init__(self, inputs, outputs, stride, same, groups=1):
        super().__init__(inputs, outputs, 3, stride=stride, groups=groups, bias=False)
        self.same = same

    def forward(self, x):
        return super().forward(pad_3x3(x, self.stride[0], self.same))


class MaxPool3x3(nn.Module):
    def __init__(self, same):
        super().__init__()
        self.same = same

    def forward(self, x):
        return F.max_pool2d(pad_3x3(x, 2, self.same, value=float("-inf")), 3, stride=2)


def pointwise(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def evens_then_odds(x):
    """The shuffle y = transpose of x's channels viewed as (C/2, 2)."""
    n, c, h, w = x.shape
    return x.view(n, c // 2, 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Unit(nn.Module):
    """Megvii's or tensorpack's unit. With stride 2 both branches read all inputs; the projection keeps their number."""

    def __init__(self, inputs, outputs, stride, dialect):
        super().__init__()
        same = dialect == "tensorpack"
        self.stride, self.dialect = stride, dialect
        passed = inputs if stride == 2 else outputs // 2
        main_inputs = inputs if stride == 2 else inputs // 2
        middle = outputs // 2
        self.branch_main = nn.Sequential(
            pointwise(main_inputs, middle), nn.BatchNorm2d(middle), nn.ReLU(),
            Conv3x3(middle, middle, stride, same, groups=middle), nn.BatchNorm2d(middle),
            pointwise(middle, outputs - passed), nn.BatchNorm2d(outputs - passed), nn.ReLU())
        if stride == 2:
            self.branch_proj = nn.Sequential(
                Conv3x3(inputs, inputs, stride, same, groups=inputs), nn.BatchNorm2d(inputs),
                pointwise(inputs, inputs), nn.BatchNorm2d(inputs), nn.ReLU())

    def forward(self, x):
        if self.stride == 2:
            kept, main = self.branch_proj(x), x
        elif self.dialect == "megvii":
            kept, main = x[:, 0::2], x[:, 1::2]
        else:
            kept, main = x.chunk(2, dim=1)
        y = torch.cat((kept, self.branch_main(main)), dim=1)
        return evens_then_odds(y) if self.dialect == "tensorpack" else y


class DialectShuffleNetV2(nn.Module):
    def __init__(self, repeats, channels, classes, dialect):
        super().__init__()
        stem, *stages, head = channels
        same = dialect == "tensorpack"
        self.conv1 = nn.Sequential(Conv3x3(3, stem, 2, same), nn.BatchNorm2d(stem), nn.ReLU())
        self.maxpool = MaxPool3x3(same)
        inputs = stem
        for name, outputs, units in zip(("stage2", "stage3", "stage4"), stages, repeats):
            entry = Unit(inputs, outputs, 2, dialect)
            setattr(self, name, nn.Sequential(entry, *(Unit(outputs, outputs, 1, dialect) for _ in range(units - 1))))
            inputs = outputs
        self.conv5 = nn.Sequential(pointwise(inputs, head), nn.BatchNorm2d(head), nn.ReLU())
        self.fc = nn.Linear(head, classes, bias=dialect != "megvii")

    def forward(self, x):
        x = self.maxpool(self.conv1(x))
        x = self.conv5(self.stage4(self.stage3(self.stage2(x))))
        return self.fc(x.mean([2, 3]))


def make_network(dialect, repeats, channels, classes):
    """channels: stem, the three stages, head. float64."""
    if dialect == "torchvision":
        network = TorchvisionShuffleNetV2(repeats, channels, num_classes=classes)
    elif dialect in DIALECTS:
        network = DialectShuffleNetV2(repeats, channels, classes, dialect)
    else:
        raise ValueError(f"unknown dialect {dialect!r}: expected one of {', '.join(DIALECTS)}")
    return network.double()


def network_input(dialect, images):
    """uint8 RGB (N,H,W,3) -> float64 (N,3,H,W), as the dialect's authors feed it."""
    x = torch.from_numpy(images).double()
    if dialect == "megvii":
        x = x.flip(-1)
    else:
        mean, std = (torch.tensor(c, dtype=torch.float64) for c in (IMAGENET_MEAN_RGB, IMAGENET_STD_RGB))
        x = (x / 255 - mean) / std
        if dialect == "tensorpack":
            x = x.flip(-1)
    return x.permute(0, 3, 1, 2).contiguous()


def tensors_of(network):
    """Parameters and running statistics by name; PyTorch's step counters are not part of the network."""
    return {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
