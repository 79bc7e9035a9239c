"""What a file of a fine-tuned model says about itself, read without torch: the page lists engines before it loads it.

A safetensors file begins with the length of its header, eight bytes little-endian, and the header as JSON.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

FILE = "model.safetensors"
FORMAT = "asap-viewer/task/1"
TASKS = ("classification", "segmentation")
MOST_BYTES = 100 << 20
"""A longer header is not one."""


class Header(NamedTuple):
    """A fine-tuned model in a few words."""

    task: str  # one of TASKS
    classes: tuple[str, ...]  # its outputs; of a segmenter without the background
    facts: Mapping[str, str]  # free text by name: whose encoder, which data


def read_metadata(path: Path) -> dict[str, str]:
    """Text metadata of a safetensors file; {} for a file that cannot be read or is none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            told = json.loads(file.read(length)) if 0 < length <= MOST_BYTES else {}
    except (OSError, ValueError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return {}
    metadata = told.get("__metadata__", {}) if isinstance(told, dict) else {}
    return {str(name): str(value) for name, value in metadata.items()} if isinstance(metadata, dict) else {}


def read_header(path: Path) -> Header | None:
    """What a fine-tuned model is; None for any other file."""
    return parse_header(read_metadata(path))


def parse_header(metadata: Mapping[str, str]) -> Header | None:
    """The same from metadata that are already read."""
    if metadata.get("format") != FORMAT or metadata.get("task") not in TASKS:
        return None
    try:
        classes = tuple(str(name) for name in json.loads(metadata["config"])["classes"])
        facts = {str(name): str(value) for name, value in json.loads(metadata["facts"]).items()}
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
    return Header(metadata["task"], classes[1:] if metadata["task"] == "segmentation" else classes, facts)


def describe(header: Header) -> str:
    """One line for a list of engines."""
    count = f"{len(header.classes)} {'labels' if header.task == 'classification' else 'structures'}"
    return f"fine-tuned {header.task} of {count} on {header.facts.get('encoder', 'an unknown encoder')}"
