"""What a figure was measured on: a busy machine measures itself."""

import os
import platform
import sys
import time
from typing import Any


def describe_machine() -> dict[str, Any]:
    """Cores, load and versions, beside every figure."""
    return {
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": sys.version.split()[0],
        "system": platform.system(),
        "at_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def figure(name: str, measured: float, limit: float, unit: str, **details: Any) -> dict[str, Any]:
    """One figure beside what it may be at most."""
    return {
        "name": name,
        "measured": round(measured, 3),
        "limit": limit,
        "unit": unit,
        "met": measured <= limit,
        **details,
        "machine": describe_machine(),
    }
