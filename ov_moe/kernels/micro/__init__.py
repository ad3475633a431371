"""The micro-kernels of the product: one file each, and this table."""

from __future__ import annotations

from collections.abc import Mapping

from ov_moe.kernels.micro.base import MicroKernel
from ov_moe.kernels.micro.dpas import Dpas
from ov_moe.kernels.micro.fma import Fma
from ov_moe.kernels.micro.gemv import Gemv

MicroKernels = Mapping[str, type[MicroKernel]]

# From what serves everything to what asks for most: the last one that suits a workload is taken.
MICRO_KERNELS: MicroKernels = {
    kind.name: kind
    for kind in (
        Fma,
        Gemv,
        Dpas,
    )
}


def switch_words(kinds: MicroKernels = MICRO_KERNELS) -> dict[str, type[MicroKernel] | None]:
    """What a user may say of the micro-kernel, and which one the word asks for; ``auto`` is the rules."""
    return {"auto": None, **{word: kind for kind in kinds.values() for word in kind.words}}


__all__ = ["MICRO_KERNELS", "Dpas", "Fma", "Gemv", "MicroKernel", "MicroKernels", "switch_words"]
