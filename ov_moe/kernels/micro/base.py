"""What a micro-kernel is: the part of a GEMM that multiplies one tile, as a frozen description of its sizes.

A micro-kernel is a file here, a file in cl/ that defines the interface in cl/gemm.cl, and a line in the table of
ov_moe.kernels.micro. It knows neither the schedule nor the stage.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ov_moe.errors import InvalidInputError
from ov_moe.spec import Activations, DeviceInfo, Workload

if TYPE_CHECKING:
    from ov_moe.kernels.block import BlockSpec
    from ov_moe.kernels.config import KernelConfig


@dataclass(frozen=True, kw_only=True)
class MicroKernel(ABC):
    """The sizes of a tile, and what else its programs are built with; every field is a setting of the benchmark.

    Attributes:
        tile_m: Rows of a task.
        tile_n: Columns of a task (GateUp: half of them gate, half up).
        tile_k: Elements of K that stand in local memory at a time.
        local_size: Work-items of a group.
        name: What users and reports call it.
        sources: Its files, in the order in which they are composed: of ``ov_moe.cl``, or ``package:path``.
        words: What a user's switch says to ask for it; none where only the rules choose it.
        half_only: Whether its instruction takes f16 alone. Whether rows are f16 is known only when a program is built,
            so fma is composed behind it, and computes rows of f32 in the same tiles.
        workload: What it is for, in the words of the documentation.
    """

    tile_m: int
    tile_n: int
    tile_k: int
    local_size: int

    name: ClassVar[str]
    sources: ClassVar[tuple[str, ...]]
    words: ClassVar[tuple[str, ...]] = ()
    half_only: ClassVar[bool] = False
    workload: ClassVar[str]

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is int and value < 1:
                raise InvalidInputError(f"{field.name} is {value}, it must be at least 1.")
        self.check()

    @abstractmethod
    def check(self) -> None:
        """Raise InvalidInputError for sizes that do not fit each other."""

    def defines(self) -> dict[str, str]:
        """The preprocessor definitions that stand for it; LOCAL_SIZE is the stage's."""
        return {name: str(getattr(self, name.lower())) for name in ("TILE_M", "TILE_N", "TILE_K")}

    def options(self) -> tuple[str, ...]:
        """Options of the OpenCL compiler, beside the language's standard."""
        return ()

    def settings(self) -> dict[str, Any]:
        """Name and fields, flat, as reports show them."""
        return {"micro_kernel": self.name, **asdict(self)}

    def refuses_rows(self, dtype: str) -> str | None:
        """Why a program of these sizes cannot be built for rows of a NumPy type; None where it can."""
        return None

    @classmethod
    def refuses(cls, block: BlockSpec, activations: Activations) -> str | None:
        """Why it cannot serve a block; None where it can."""
        return None

    @classmethod
    @abstractmethod
    def unsuited(cls, workload: Workload, device: DeviceInfo) -> str | None:
        """Why the rules leave it out for a workload on a device; None where it is to be taken."""

    @classmethod
    def because(cls, device: DeviceInfo, word: str) -> str:
        """Why it is taken: by the rules (``auto``), or as a switch's word asks."""
        return "asked for"

    @classmethod
    @abstractmethod
    def tiles(cls, workload: Workload, device: DeviceInfo, word: str = "auto") -> MicroKernel:
        """It in the sizes for a workload on a device.

        Raises InvalidInputError where a switch's word asks for what the device cannot do.
        """

    @classmethod
    def placed(cls, config: KernelConfig, workload: Workload, device: DeviceInfo, word: str = "auto") -> KernelConfig:
        """The same schedule with it, in the sizes of ``tiles``; raises as that does."""
        return replace(config, micro=cls.tiles(workload, device, word))
