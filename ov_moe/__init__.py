"""ov-moe: Mixture-of-Experts blocks of OpenVINO models on a balanced pool of GPU work-groups.

With OV_MOE_VIRTUAL_GPU=1 (true, yes, on) in the environment, importing this package starts the virtual GPU; it must
then be imported before openvino. Importing the package alone does not import openvino:
``ov_moe.virtual_gpu.start()`` can come first.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ov_moe.compiler import compile_model
    from ov_moe.errors import DeviceError, InvalidInputError, OvMoeError
    from ov_moe.ops import register
    from ov_moe.optimizer import optimize
    from ov_moe.options import Config
    from ov_moe.report import Report, RewrittenBlock, SkippedBlock
    from ov_moe.warmup import warmup

__version__ = "0.1.0"

__all__ = [
    "Config",
    "DeviceError",
    "InvalidInputError",
    "OvMoeError",
    "Report",
    "RewrittenBlock",
    "SkippedBlock",
    "compile_model",
    "optimize",
    "register",
    "warmup",
]

_HOME = {
    "Config": "ov_moe.options",
    "DeviceError": "ov_moe.errors",
    "InvalidInputError": "ov_moe.errors",
    "OvMoeError": "ov_moe.errors",
    "Report": "ov_moe.report",
    "RewrittenBlock": "ov_moe.report",
    "SkippedBlock": "ov_moe.report",
    "compile_model": "ov_moe.compiler",
    "optimize": "ov_moe.optimizer",
    "register": "ov_moe.ops",
    "virtual_gpu": "ov_moe.virtual_gpu",
    "warmup": "ov_moe.warmup",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ov_moe' has no attribute {name!r}")
    module = importlib.import_module(_HOME[name])
    # Kept, also because a submodule of the same name (warmup) would otherwise take its place.
    globals()[name] = module if name == "virtual_gpu" else getattr(module, name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


if os.environ.get("OV_MOE_VIRTUAL_GPU") and importlib.import_module("ov_moe.options").starts_virtual_gpu():
    importlib.import_module("ov_moe.virtual_gpu").start()
