"""An OpenCL device whose buffers stay where they are and whose launches are timed by the device's own clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from ov_moe.devices import opencl_list
from ov_moe.devices.opencl import OpenCLDevice, Tensor
from ov_moe.errors import DeviceError
from ov_moe.kernels.geometry import WorkSize

Buffer = Any  # pyopencl.Buffer
Event = Any  # pyopencl.Event


@dataclass(frozen=True)
class Prepared:
    """A built kernel with its arguments set: enqueueing it costs the host one call."""

    kernel: Any
    entry: str
    arguments: tuple[Any, ...]  # a kernel does not keep its buffers alive


class TimingDevice(OpenCLDevice):
    """An OpenCL device with a profiling queue; commands run in the order in which they are enqueued."""

    def __init__(self, device: Any = None) -> None:
        super().__init__(device, profiling=True)

    @property
    def is_gpu(self) -> bool:
        """Whether the driver calls it a GPU, and it is not the virtual one, whose times are a CPU's."""
        return bool(self.device.type & self._cl.device_type.GPU) and "virtual GPU" not in self.name

    def allocate(self, size: int) -> Buffer:
        """A buffer of ``size`` bytes, at least 4, with unspecified content; DeviceError where there is no room."""
        with self._sentence(f"a buffer of {size} bytes"):
            return self._cl.Buffer(self._context, self._cl.mem_flags.READ_WRITE, max(size, 4))

    def upload(self, array: Tensor) -> Buffer:
        """A buffer of the array's bytes; DeviceError where there is no room."""
        buffer = self.allocate(array.nbytes)
        self.write(buffer, array)
        return buffer

    def write(self, buffer: Buffer, array: Tensor) -> None:
        """Overwrite the beginning of a buffer, and wait for it."""
        if array.size:
            with self._sentence("a copy to the device"):
                self._cl.enqueue_copy(self._queue, buffer, np.ascontiguousarray(array), is_blocking=True)

    def read(self, buffer: Buffer, array: Tensor) -> Tensor:
        """Fill a C-contiguous array from a buffer once all commands before are done; returns the array."""
        if array.size:
            with self._sentence("a copy from the device"):
                self._cl.enqueue_copy(self._queue, array, buffer, is_blocking=True)
        return array

    def fill(self, buffer: Buffer, word: int, size: int | None = None) -> None:
        """Enqueue writes of a 32-bit word over ``size`` bytes (a multiple of 4; all of them unless given)."""
        count = buffer.size // 4 * 4 if size is None else size
        with self._sentence("a fill"):
            self._cl.enqueue_fill_buffer(self._queue, buffer, np.uint32(word), 0, count)

    def prepare(self, text: str, entry: str, arguments: Sequence[Any], options: tuple[str, ...] = ()) -> Prepared:
        """Build a program (once for each text) and set the arguments of a kernel object of its own.

        Args:
            text: A complete program.
            entry: Name of the kernel.
            arguments: Buffers and NumPy scalars, in order.
            options: Of the OpenCL compiler, beside the language's standard.

        Raises:
            DeviceError: The program does not build, or does not take these arguments.
        """
        kernel = self._new_kernel(text, entry, options)
        with self._sentence(f"setting the arguments of {entry}"):
            kernel.set_args(*arguments)
        return Prepared(kernel, entry, tuple(arguments))

    def enqueue(self, prepared: Prepared, size: WorkSize, offset: tuple[int, int, int] = (0, 0, 0)) -> Event:
        """Enqueue a kernel; ``offset`` is added to its global ids. DeviceError when the device refuses."""
        with self._sentence(prepared.entry):
            return self._cl.enqueue_nd_range_kernel(
                self._queue, prepared.kernel, size.global_size, (size.local_size, 1, 1), global_work_offset=offset
            )

    def finish(self) -> None:
        """Wait for all commands; DeviceError where one of them failed."""
        with self._sentence("a command"):
            self._queue.finish()

    def milliseconds(self, events: Sequence[Event]) -> float:
        """From the start of the first event to the end of the last, gaps included, by the device's clock."""
        self.finish()
        end = max(int(event.profile.end) for event in events)
        return (end - int(events[0].profile.start)) * 1e-6

    @contextmanager
    def _sentence(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._cl.Error as error:
            raise DeviceError(f"{what} failed on {self.name}: {error}.") from error

    def describe(self) -> dict[str, str | int]:
        """Names and versions for a benchmark's record; memory in bytes."""
        device, platform = self.device, self.device.platform
        return {
            "name": self.name,
            "type": "GPU" if self.is_gpu else "no GPU",
            "driver": str(device.driver_version).strip(),
            "version": str(device.version).strip(),
            "platform": str(platform.name).strip(),
            "platform_version": str(platform.version).strip(),
            "compute_units": self.compute_units,
            "memory": int(device.global_mem_size),
            "cache": int(device.global_mem_cache_size),
        }


def check_capability(name: str, major: int, minor: int) -> None:
    """Raise DeviceError for an NVIDIA card whose PTX lacks what the kernels use: f16 in pairs, asynchronous copies."""
    if major < 8:
        raise DeviceError(f"{name} has compute capability {major}.{minor}: the kernels need a card of 8.0 or more.")


def select_device(wish: str = "auto") -> TimingDevice:
    """``auto``: the first GPU, else the first device, else Intel's runtime for CPUs, which ``cpu`` takes, from pip.

    Any other word is part of a device's name. Raises DeviceError, which lists the devices, when none has it.
    """
    from ov_moe.devices import intel_cpu_runtime

    if wish == "cpu":
        intel_cpu_runtime.use()
    if wish == "auto":
        with suppress(DeviceError):  # not installed, or the virtual GPU, which is a GPU here
            intel_cpu_runtime.use(beside_others=True)
        try:
            first = TimingDevice()
        except DeviceError as error:
            raise DeviceError(f"{str(error).rstrip('.')}, or pip's intel-opencl-rt for the CPU.") from error
        return _served(first)
    pyopencl = opencl_list.pyopencl()
    devices = opencl_list.devices(pyopencl)
    if wish == "cpu":
        kind = pyopencl.device_type.CPU
        fitting = [one for one in devices if one.type & kind and "intel" in one.platform.name.lower()]
    else:
        fitting = [one for one in devices if wish.lower() in one.name.lower()]
    if fitting:
        return _served(TimingDevice(fitting[0]))
    names = ", ".join(repr(device.name.strip()) for device in devices) or "none"
    raise DeviceError(f"No OpenCL device's name contains {wish!r}; there are: {names}.")


def _served(device: TimingDevice) -> TimingDevice:
    if device.info.vendor == "nvidia":
        found = device.device
        check_capability(device.name, found.compute_capability_major_nv, found.compute_capability_minor_nv)
    return device
