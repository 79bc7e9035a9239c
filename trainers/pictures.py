"""Pictures of heat maps for the log."""

import numpy as np

MOST_SENTENCES = 6


def draw_heat(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Axial slices where sentences are found best, side by side: (rows, columns, 3) uint8, anterior up, right left.

    image (X, Y, Z) in any range, heat (S, gx, gy, gz); each sentence's heat is spread from its lowest to its highest
    value, in red.
    """
    low, high = float(image.min()), float(image.max())
    gray = (image - low) / max(high - low, 1e-6)
    slices = [_draw_one(gray, each) for each in heat[:MOST_SENTENCES]]
    return np.concatenate(slices or [np.zeros((1, 1, 3), np.uint8)], axis=1)


def _draw_one(gray: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The slice (rows, columns, 3) through the middle of the layer of patches with the highest heat."""
    cells = [n // g for n, g in zip(gray.shape, heat.shape, strict=True)]
    layer = int(heat.max(axis=(0, 1)).argmax())
    cut = gray[:, :, layer * cells[2] + cells[2] // 2]
    spread = (heat[:, :, layer] - heat.min()) / max(float(heat.max() - heat.min()), 1e-6)
    red = np.kron(spread, np.ones((cells[0], cells[1])))
    colours = np.stack([np.maximum(cut, red), cut * (1 - red / 2), cut * (1 - red / 2)], axis=-1)
    pixels: np.ndarray = np.rint(colours * 255).astype(np.uint8)
    return pixels[::-1, ::-1].transpose(1, 0, 2)  # x grows to the patient's right, which is left on a picture
