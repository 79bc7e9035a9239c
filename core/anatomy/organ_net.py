"""A compact 3-D U-Net that names organs on a 3 mm grid (after Ronneberger et al., arXiv 1505.04597)."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from core.errors import EngineError

CLASSES = (
    "rest",
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
    "trachea",
    "heart",
    "pulmonary_artery",
    "aorta",
    "pulmonary_vein",
    "superior_vena_cava",
    "inferior_vena_cava",
    "esophagus",
    "spinal_cord",
    "liver",
    "spleen",
    "stomach",
    "kidney_left",
    "kidney_right",
    "pancreas",
    "colon",
    "spine",
    "ribs",
    "sternum",
    "costal_cartilages",
    "scapula",
    "clavicula",
    "humerus",
    "autochthon",
)
"""Outputs in their order; names without a side are told apart by where they lie."""
EDGE_MM = 3.0
"""Voxel edge of what the net reads."""
WINDOWS_HU = ((-1000.0, 200.0), (-160.0, 300.0))
"""HU that become -1 and 1 in each input channel: lung, soft tissue."""
WIDTHS = (12, 32, 64, 128, 160)
"""Channels at 3, 6, 12, 24 and 48 mm."""
TILE = (96, 80, 80)
"""Voxels (x, y, z) that the net reads at a time, 288 x 240 x 240 mm; multiples of 16."""
NAMES = "classes"
"""Entry of the file's metadata that lists the outputs."""


class OrganNet(nn.Module):
    """(B, 2, X, Y, Z) windows of HU -> (B, 30, X, Y, Z) logits of `CLASSES`; X, Y, Z multiples of 16."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS, classes: int = len(CLASSES)) -> None:
        super().__init__()
        first, *deeper = widths
        self.stem = _convolve(len(WINDOWS_HU), first)
        pairs = list(zip(widths, deeper, strict=False))
        self.down = nn.ModuleList(nn.Sequential(_convolve(i, o, stride=2), _convolve(o, o)) for i, o in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose3d(o, i, 2, stride=2) for i, o in reversed(pairs))
        self.merge = nn.ModuleList(_convolve(2 * i, i) for i, _ in reversed(pairs))
        self.head = nn.Conv3d(first, classes, 1)
        self.class_weights: Tensor
        """(K,) what a voxel of each class counted in training; who names voxels has to know."""
        self.register_buffer("class_weights", torch.ones(classes))

    def forward(self, windows: Tensor) -> Tensor:
        """Logits (B, classes, X, Y, Z) of windows (B, 2, X, Y, Z) from `show_windows`."""
        maps = [self.stem(windows)]
        for level in self.down:
            maps.append(level(maps[-1]))
        found = maps.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            found = merge(torch.cat([up(found), maps.pop()], dim=1))
        logits: Tensor = self.head(found)
        return logits


def _convolve(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    """Convolution, norm over each channel's voxels, leaky rectifier."""
    return nn.Sequential(
        nn.Conv3d(inside, outside, 3, stride=stride, padding=1, bias=False),
        nn.InstanceNorm3d(outside, affine=True),
        nn.LeakyReLU(0.01, inplace=True),
    )


def show_windows(hu: Tensor) -> Tensor:
    """HU (..., X, Y, Z) as the net reads it: (..., 2, X, Y, Z) float32 in [-1, 1]."""
    shown = [(hu.float() - low) / (high - low) * 2 - 1 for low, high in WINDOWS_HU]
    return torch.stack(shown, dim=-4).clamp_(-1, 1)


def save_organ_net(weights: dict[str, Tensor], path: Path) -> None:
    """Write weights in float16 with the names of the outputs."""
    half = {name: value.detach().to(torch.float16).contiguous() for name, value in weights.items()}
    save_file(half, path, metadata={NAMES: " ".join(CLASSES)})


def load_organ_net(path: Path) -> OrganNet:
    """The trained net, in float32 and ready to predict.

    Raises EngineError when the file is absent, damaged, or of other classes.
    """
    try:
        with safe_open(path, "pt") as file:
            names = (file.metadata() or {}).get(NAMES, "")
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise EngineError(
            f"{path} cannot be read as the organ net ({error}). Restore it from the repository."
        ) from error
    if names != " ".join(CLASSES):
        raise EngineError(f"{path} names other organs than this version does. Train it with this version's trainer.")
    net = OrganNet()
    net.load_state_dict(weights)
    for kernel in net.parameters():
        if kernel.ndim == 5:  # the layout that CPUs convolve fastest
            kernel.data = kernel.data.contiguous(memory_format=torch.channels_last_3d)
    return net.eval()
