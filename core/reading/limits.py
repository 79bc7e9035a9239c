"""How much a person may hand in before it is refused."""

from dataclasses import dataclass, fields

from core.errors import ConfigError

GIB = 2**30


@dataclass(frozen=True)
class ReadLimits:
    """Bounds checked before memory or disk is used; a file that lies about its size is stopped while it is read."""

    upload_bytes: int = 4 * GIB
    """Size of the file, or of all files of the folder, as handed in."""
    unpacked_bytes: int = 8 * GIB
    """Size of everything in a zip once unpacked."""
    members: int = 20_000
    """Files in a zip or folder."""
    ratio: float = 200.0
    """Unpacked size over packed size of one zip member, for members above `ratio_from_bytes`."""
    ratio_from_bytes: int = GIB // 4
    """Smaller members may be packed as tightly as they like: an empty slice packs 1000 to 1."""
    voxels: int = 2**29
    """Voxels of the CT; two bytes each, twice while it is turned to RAS+."""
    slices: int = 4
    """Fewest slices that make a volume."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value <= 0:
                raise ConfigError(f"ReadLimits.{item.name} is {value}; it must be above 0.")


DEFAULT_LIMITS = ReadLimits()
