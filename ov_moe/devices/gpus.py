"""The GPUs that OpenVINO shows. Imports openvino."""

from __future__ import annotations

import openvino as ov


def listed() -> dict[str, list[str]]:
    """``gpus``: their names, e.g. ``["GPU.0", "GPU.1"]``."""
    return {"gpus": [name for name in ov.Core().available_devices if name.startswith("GPU")]}
