"""Plotly figures of a case: organs as surfaces, sentences against organs. No gradio."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from scipy.ndimage import gaussian_filter

from core.anatomy.masks import OrganMasks
from core.grounding.heatmap import SentenceGrounding
from core.resample import resample, spaced_grid
from core.structures import BY_NAME, BY_NUMBER, spoken_name
from core.volume import Grid, Volume

SURFACE_MM = 4.0
"""Voxel size of the surfaces: coarse, so that forty organs turn smoothly in a browser without a GPU."""
SEE_THROUGH = {"lungs": 0.25, "body wall": 0.08, "bones": 0.5}
TEXT = "#9aa6b4"


def draw_surfaces(volume: Volume, masks: OrganMasks, peak_ras_mm: Sequence[float] | None = None) -> go.Figure:
    """Organs as closed surfaces in patient mm, with the chosen sentence's peak as a marker."""
    grid = spaced_grid(volume.grid, np.full(3, SURFACE_MM))
    labels = resample(masks.labels, volume.grid, grid, "nearest")
    meshes = [
        mesh for number in masks.numbers() if number != BY_NAME["body"].number and (mesh := _mesh(labels, number, grid))
    ]
    figure = go.Figure(meshes)
    if peak_ras_mm is not None:
        x, y, z = ([value] for value in peak_ras_mm)
        figure.add_trace(
            go.Scatter3d(x=x, y=y, z=z, mode="markers", name="peak", marker={"size": 7, "color": "#ffe14d"})
        )
    axis = {"visible": False}
    figure.update_layout(
        scene={
            "xaxis": axis,
            "yaxis": axis,
            "zaxis": axis,
            "aspectmode": "data",
            # seen from the front, patient's right on the left, as in the axial plane
            "camera": {"eye": {"x": 0.0, "y": 1.9, "z": 0.15}, "up": {"x": 0, "y": 0, "z": 1}},
        },
        **_quiet_layout(460),
    )
    return figure


def _mesh(labels: np.ndarray, number: int, grid: Grid) -> go.Mesh3d | None:
    """One structure's surface, or None where it is too small to have one."""
    from skimage.measure import marching_cubes

    smooth = gaussian_filter(np.pad((labels == number).astype(np.float32), 1), 0.7)
    if smooth.max() <= 0.5:
        return None
    vertices, faces, _, _ = marching_cubes(smooth, 0.5)
    x, y, z = grid.to_mm(vertices - 1).round(1).T
    i, j, k = faces.T
    structure = BY_NUMBER[number]
    return go.Mesh3d(
        x=x,
        y=y,
        z=z,
        i=i,
        j=j,
        k=k,
        color=structure.colour,
        opacity=SEE_THROUGH.get(structure.group, 1.0),
        name=spoken_name(structure.name),
        hoverinfo="name",
        flatshading=False,
    )


def draw_matrix(groundings: Sequence[SentenceGrounding], most_organs: int = 14) -> go.Figure:
    """Sentences (rows) against organs (columns): the share of each sentence's heat that lies in the organ."""
    totals: dict[str, float] = {}
    for one in groundings:
        for name, share in one.organs.items():
            totals[name] = totals.get(name, 0.0) + share
    names = sorted(totals, key=lambda name: -totals[name])[:most_organs]
    shares = np.array([[one.organs.get(name, 0.0) for name in names] for one in groundings])
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=[spoken_name(name) for name in names],
            y=[f"{one.index}" for one in groundings],
            text=[[one.text for _ in names] for one in groundings],
            hovertemplate="%{text}<br>%{x}: %{z:.0%} of the heat<extra></extra>",
            colorscale="Inferno",
            zmin=0,
            zmax=1,
            colorbar={"title": "share", "tickformat": ".0%"},
        )
    )
    figure.update_yaxes(autorange="reversed", title="sentence", type="category")
    figure.update_layout(**_quiet_layout(120 + 22 * max(4, len(groundings))))
    return figure


def _quiet_layout(height_px: int) -> dict[str, object]:
    return {
        "height": height_px,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": TEXT, "size": 12},
        "showlegend": False,
    }
