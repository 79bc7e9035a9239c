"""What contrast medium, disease and scanner do to a sample: densities changed class by class, in place."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.anatomy.organ_net import CLASSES, EDGE_MM
from trainers.organ_net.warping import smooth_field

BLOOD = ("heart", "pulmonary_artery", "aorta", "pulmonary_vein", "superior_vena_cava", "inferior_vena_cava")
BONES = ("spine", "ribs", "sternum", "scapula", "clavicula", "humerus")
SOLID = ("liver", "spleen", "pancreas", "stomach", "autochthon")
KIDNEYS = ("kidney_left", "kidney_right")
SIDES = {
    "left": ("lung_upper_lobe_left", "lung_lower_lobe_left"),
    "right": ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"),
}
LUNGS = (*SIDES["left"], *SIDES["right"])
BLOOD_HU = 42.0
"""Blood without contrast medium."""
AIR_HU = -1024.0


def belong_to(classes: Tensor, names: tuple[str, ...]) -> Tensor:
    """Where `classes` (X, Y, Z) uint8 is one of `names`: bool."""
    return torch.isin(classes, torch.tensor([CLASSES.index(name) for name in names], dtype=classes.dtype))


def recontrast(hu: Tensor, classes: Tensor, rng: np.random.Generator) -> None:
    """Another phase: blood washed out or filled class by class, kidneys with it; organs and bones a little changed."""
    is_plain = rng.random() < 0.5
    share = rng.uniform(0.0, 0.15) if is_plain else rng.uniform(0.3, 1.2)
    if is_plain:
        _scale_about(hu, (classes == 0) & (hu > 90) & (hu < 450), BLOOD_HU, share)
    for name in BLOOD:
        _scale_about(hu, belong_to(classes, (name,)), BLOOD_HU, share * rng.uniform(0.7, 1.3))
    _scale_about(hu, belong_to(classes, KIDNEYS), 32.0, share * rng.uniform(0.5, 1.3))
    for name in SOLID:
        hu[belong_to(classes, (name,))] += rng.normal(0.0, 15.0)
    _scale_about(hu, belong_to(classes, BONES) & (hu > 150), 150.0, rng.uniform(0.4, 1.3))
    hu[(classes == 0) & (hu > -150) & (hu < -30)] += rng.normal(0.0, 10.0)
    lung = belong_to(classes, LUNGS) & (hu < -500)
    hu[lung] = (hu[lung] + 1000.0) * float(np.exp(rng.uniform(-0.5, 0.5))) - 1000.0


def _scale_about(hu: Tensor, where: Tensor, centre_hu: float, share: float) -> None:
    hu[where] = centre_hu + (hu[where] - centre_hu) * share


def make_ill(hu: Tensor, classes: Tensor, rng: np.random.Generator) -> None:
    """Sometimes opacities and masses that stay lung, and fluid that takes its place and is lung no more."""
    if rng.random() < 0.3:
        _grow_mass(hu, classes, rng)
    if rng.random() < 0.35:
        field = smooth_field(hu.shape, rng.uniform(12.0, 40.0) / EDGE_MM, rng)
        cloud = belong_to(classes, LUNGS) & (field > rng.uniform(0.3, 1.6))
        hu[cloud] = hu[cloud] * 0.2 + 0.8 * rng.uniform(-600.0, 60.0)
    if rng.random() < 0.2:
        lung = belong_to(classes, SIDES["left" if rng.random() < 0.5 else "right"])
        if not lung.any():
            return
        behind = torch.arange(hu.shape[1], dtype=torch.float32)[None, :, None]
        low = 0.3 * torch.arange(hu.shape[2], dtype=torch.float32)[None, None, :]
        depth = behind + low + 2.0 * smooth_field(hu.shape, 10.0, rng)
        fluid = lung & (depth < torch.quantile(depth[lung][::16], rng.uniform(0.02, 0.35)))
        hu[fluid] = rng.normal(8.0, 6.0)
        classes[fluid] = 0


def _grow_mass(hu: Tensor, classes: Tensor, rng: np.random.Generator) -> None:
    """A bumpy ball of tissue somewhere in a lung, up to its surface."""
    lung = belong_to(classes, LUNGS)
    places = torch.nonzero(lung)
    if len(places) == 0:
        return
    centre = places[int(rng.integers(len(places)))]
    axes = [(torch.arange(n) - c) * EDGE_MM * rng.uniform(0.75, 1.3) for n, c in zip(hu.shape, centre, strict=True)]
    distance = torch.sqrt(axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None, :] ** 2)
    radius_mm = rng.uniform(8.0, 35.0)
    mass = lung & (distance < radius_mm * (1 + 0.15 * smooth_field(hu.shape, radius_mm / EDGE_MM, rng)))
    hu[mass] = rng.normal(40.0, 15.0)


def scan_again(hu: Tensor, classes: Tensor, rng: np.random.Generator) -> Tensor:
    """HU (X, Y, Z) by another scanner: slice thickness, kernel, noise, offset, round or short field of view."""
    if rng.random() < 0.6:
        hu = _blur(hu, rng.uniform(0.0, (0.6, 0.6, 1.6)))
    noise = torch.from_numpy(rng.standard_normal(tuple(hu.shape), np.float32))
    if rng.random() < 0.5:
        noise = 2.0 * _blur(noise, np.full(3, rng.uniform(0.4, 0.9)))
    hu = hu * rng.uniform(0.96, 1.04) + noise * rng.uniform(0.0, 35.0) + rng.uniform(-12.0, 12.0)
    if rng.random() < 0.3:
        x, y = ((torch.arange(n) - n / 2) * EDGE_MM - rng.normal(0, 15) for n in hu.shape[:2])
        outside = (x[:, None] ** 2 + y[None, :] ** 2) > rng.uniform(150.0, 230.0) ** 2
        _cut(hu, classes, outside[:, :, None].expand(hu.shape))
    if rng.random() < 0.3:
        height = torch.arange(hu.shape[2])[None, None, :].expand(hu.shape)
        edge = rng.uniform(0.0, 0.5) * hu.shape[2]
        _cut(hu, classes, height < edge if rng.random() < 0.5 else height > hu.shape[2] - edge)
    return hu


def _cut(hu: Tensor, classes: Tensor, outside: Tensor) -> None:
    hu[outside] = AIR_HU
    classes[outside] = 0


def _blur(values: Tensor, sigmas: np.ndarray) -> Tensor:
    """Gaussian softening of (X, Y, Z) by `sigmas` voxels along each axis."""
    blurred = values[None, None]
    for axis, sigma in enumerate(sigmas):
        if sigma < 0.2:
            continue
        steps = torch.arange(-4.0, 5.0)
        kernel = torch.exp(-0.5 * (steps / float(sigma)) ** 2)
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = len(steps)
        padding = [0, 0, 0, 0, 0, 0]
        padding[4 - 2 * axis : 6 - 2 * axis] = [4, 4]
        blurred = F.conv3d(F.pad(blurred, padding, mode="replicate"), (kernel / kernel.sum()).reshape(shape))
    return blurred[0, 0]
