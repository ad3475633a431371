"""Runs the kernels with every buffer between pages that may not be touched: the process dies of the first that is.

A value read there and then multiplied by zero changes no result, but on a GPU it may be a page fault.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Side = Literal["end", "begin"]


def guarded_copy(array: np.ndarray, side: Side) -> np.ndarray:
    """A copy whose last byte is the last one before a forbidden page, or whose first is the first behind one."""
    page = mmap.PAGESIZE
    pages = max(-(-array.nbytes // page), 1)
    region = mmap.mmap(-1, (pages + 2) * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(region))
    library = ctypes.CDLL(None, use_errno=True)
    for forbidden in (start, start + (pages + 1) * page):
        if library.mprotect(ctypes.c_void_p(forbidden), ctypes.c_size_t(page), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = page if side == "begin" else (pages + 1) * page - array.nbytes
    copy = np.frombuffer(region, array.dtype, array.size, offset=offset)
    copy[:] = array.reshape(-1)
    return copy.reshape(array.shape)


@dataclass(frozen=True)
class Plant:
    """One index shifted: ``buffer`` of the kernel ``entry`` seems to begin so many elements later."""

    entry: str
    buffer: str
    by: int

    def apply(self, text: str) -> str:
        before = f"#define {self.buffer}_OFFSET 0\n"
        assert text.count(before) == 1
        return text.replace(before, f"#define {self.buffer}_OFFSET ({self.by})\n")


def guarded_device(side: Side, plant: Plant | None = None) -> Any:
    """The default device, whose kernels take all buffers where they lie: plans and outputs too."""
    from ov_moe.devices.opencl import OpenCLDevice, default_device

    class Guarded(OpenCLDevice):
        def launch(self, text, entry, size, inputs, output, options=(), plan=None):
            if plant is not None and plant.entry == entry:
                text = plant.apply(text)
            cl, flags = self._cl, self._cl.mem_flags
            kept = [guarded_copy(array, side) for array in [*inputs, output]]
            use = flags.READ_WRITE | flags.USE_HOST_PTR
            buffers = [cl.Buffer(self._context, use, hostbuf=array) for array in kept]
            self._kernel(text, entry, options)(self._queue, size.global_size, (size.local_size, 1, 1), *buffers)
            self._queue.finish()
            cl.enqueue_copy(self._queue, kept[-1], buffers[-1])
            output[...] = kept[-1]
            if plan is not None:
                cl.enqueue_copy(self._queue, kept[1], buffers[1])
                plan[...] = kept[1].reshape(-1)[: plan.size]

    device = Guarded(default_device().device)
    assert device.device.host_unified_memory
    return device


SEPARATE: dict[str, dict[str, Any]] = {
    "as stored, odd K": {"precision": ("f16", "f32", "u8"), "zero": True, "hidden": 65, "intermediate": 33},
    "groups of 4 bits": {"precision": ("u4", "i4", "i8"), "group": 32, "zero": True, "hidden": 96, "intermediate": 64},
    "by twos": {"precision": ("f4e2m1", "u4", "f4e2m1"), "group": 2, "hidden": 34, "intermediate": 18},
    "channels": {"precision": ("i4", "i8", "u4"), "zero": True, "hidden": 66, "intermediate": 34},
    "16 bytes at a time": {"precision": ("u8", "f16", "f16"), "hidden": 64, "intermediate": 32},
    "groups that straddle": {"precision": ("u4", "f4e2m1", "i4"), "group": 48, "hidden": 96, "intermediate": 144},
    "scales in f32": {"precision": ("u4", "i8", "f32"), "scale_dtype": np.float32, "hidden": 32, "intermediate": 64},
}
FUSED: dict[str, dict[str, Any]] = {
    "interleaved": {"precision": ("u4", "u8"), "group": 32, "zero": True, "hidden": 64, "intermediate": 96},
    "interleaved, mxfp4": {"precision": "f4e2m1", "group": 32, "hidden": 96, "intermediate": 64},
    "halves": {"precision": ("i8", "f16"), "hidden": 47, "intermediate": 33},
}
FOR_MMA: dict[str, dict[str, Any]] = {
    "u4": {"precision": ("u4", "u4", "i4"), "group": 32, "zero": True, "hidden": 96, "intermediate": 64},
    "i4 by channel": {"precision": "i4", "hidden": 64, "intermediate": 32},
    "8 bits": {"precision": ("u8", "u8", "i8"), "zero": True, "hidden": 96, "intermediate": 32},
    "f16": {"precision": "f16", "hidden": 32, "intermediate": 96},
    "interleaved": {"precision": "f4e2m1", "group": 32, "hidden": 96, "intermediate": 64},
    "halves": {"precision": ("i8", "f16"), "hidden": 64, "intermediate": 96},
}


def forms(kernel: str) -> dict[str, dict[str, Any]]:
    """Every storage form that a micro-kernel takes, in options of ``random_block``."""
    from kernel_cases import GPT_OSS

    known = FOR_MMA if kernel == "mma" else {**SEPARATE, **FUSED}
    result = {}
    for name, options in known.items():
        layout = next((word for word in ("interleaved", "halves") if name.startswith(word)), "separate")
        biases = np.float32 if layout == "halves" else np.float16
        fused = {"layout": layout, "biases": biases, "activation": GPT_OSS} if layout != "separate" else {}
        result[name] = {**options, **fused}
    return result


def settings(kernel: str, precision: Any, schedule: str) -> list[Any]:
    """The micro-kernel's configurations for a block: mma has two where the weights can be packed."""
    from kernel_cases import config

    from ov_moe.kernel_bench.mma import Mma
    from ov_moe.kernels.micro import Dpas, Gemv
    from ov_moe.spec import DeviceInfo, Workload

    base = config(schedule)
    if kernel == "fma":
        return [base]
    if kernel == "gemv":
        return [config(schedule, micro=Gemv())]
    if kernel == "dpas":
        return [config(schedule, micro=Dpas(emulation=True))]
    kinds = (precision,) if isinstance(precision, str) else precision
    packed = [False, True] if all(kind in ("u4", "i4", "f4e2m1") for kind in kinds) else [False]
    work = Workload(4, 8, 2, 96, 64, kinds[0])
    return [Mma.placed(base, work, DeviceInfo(1), packed=some) for some in packed]


def run(kernel: str, plant: Plant | None, say: Callable[[str], None]) -> None:
    """Every form, with forbidden pages behind all buffers, then before them; results are checked too."""
    import blocks
    from kernel_cases import emulated
    from micro_kernels import check_results, rounded

    blocks.GUARD = 0
    rng = np.random.default_rng()
    # The last expert, token and row are in use: ids count up. 11 tokens, no tile's multiple.
    ids = (np.arange(22).reshape(11, 2) % 3).astype(np.int32)
    sides: Sequence[Side] = ("end", "begin") if plant is None or plant.by > 0 else ("begin",)
    devices = [guarded_device(side, plant) for side in sides]
    for index, (name, options) in enumerate(forms(kernel).items()):
        dtype = np.float32 if kernel in ("fma", "gemv") and index % 2 else np.float16
        block = blocks.random_block(rng, tokens=11, experts=3, top_k=2, ids=ids, dtype=dtype, **options)
        expected = rounded(block) if kernel in ("dpas", "mma") else block
        for setting in settings(kernel, options["precision"], ("ticket", "grid", "stride")[index % 3]):
            packed = "packed, " if getattr(setting.micro, "packed", False) else ""
            for side, device in zip(sides, devices, strict=True):
                say(f"{kernel}, {name}, {packed}forbidden at the {side}")
                results = block.run_all(device, emulated(setting))
                check_results(expected, results)


def main(kernel: str, *planted: str) -> None:
    from ov_moe import virtual_gpu

    virtual_gpu.start()
    plant = Plant(planted[0], planted[1], int(planted[2])) if planted else None
    run(kernel, plant, lambda text: print(text, flush=True))
    print("all within bounds")


if __name__ == "__main__":
    main(*sys.argv[1:])
