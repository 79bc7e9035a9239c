"""Make torchvision importable beside a CPU build of torch.

The torchvision wheel of the public index is built for CUDA. Beside a CPU torch its compiled part does not load, and
the import stops because the operators it registers fakes for do not exist. timm, and with it nnU-Net's prediction,
import torchvision although they call none of those operators. Declaring their signatures is all that is missing.
"""

import importlib
import sys
from typing import Any

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")
_kept: list[Any] = []
"""torch forgets a library that nobody holds."""


def make_torchvision_importable() -> None:
    """Declare torchvision's missing operators when its import fails for them; does nothing with a sound one."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:  # "operator torchvision::nms does not exist"
        for name in [module for module in sys.modules if module.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declare_operators()
        importlib.import_module("torchvision")
    except ImportError:  # not installed, or broken in a way that declaring cannot mend: its user will say so
        return


def _declare_operators() -> None:
    """Give the operators a signature and no code: calling one is an error, importing is not."""
    from torch.library import Library

    library = Library("torchvision", "FRAGMENT")
    for name in _OPERATORS:
        library.define(name + _SIGNATURE)
    _kept.append(library)
