"""Intel's GPUs by the names of its offline compiler, and what the choice of kernels has to know of them."""

from __future__ import annotations

from ov_moe.errors import InvalidInputError
from ov_moe.spec import DeviceInfo

# Work-items of a sub-group that XMX takes, 0 where there is none: Gen9, Xe-LP and Xe-LPG have none, Arc and Arrow Lake
# H take 8, Ponte Vecchio and all from Xe2 on 16. Debian 12's ocloc knows neither mtl-u nor what follows it.
XMX_SUBGROUPS = {
    **dict.fromkeys(("skl", "tgllp", "adl-p", "dg1", "mtl-u", "mtl-h", "arl-u"), 0),
    **dict.fromkeys(("acm-g10", "acm-g11", "acm-g12", "arl-h"), 8),
    **dict.fromkeys(("pvc", "bmg", "lnl-m", "ptl-h", "wcl", "nvl-s", "cri"), 16),
}
COMPUTE_UNITS = 512  # of an Arc A770; the number of groups follows from it, and no program


def intel_gpu(name: str, *others: str) -> DeviceInfo:
    """The GPU of a name; InvalidInputError, which lists them beside ``others`` that the caller takes, for any other."""
    if name not in XMX_SUBGROUPS:
        words = ", ".join((*others, *XMX_SUBGROUPS))
        raise InvalidInputError(f"device {name!r} is unknown: use {words}, as ocloc names Intel's GPUs.")
    xmx = XMX_SUBGROUPS[name]
    return DeviceInfo(COMPUTE_UNITS, xmx, subgroup=xmx or 8)
