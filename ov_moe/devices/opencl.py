"""Runs a stage on an OpenCL device through pyopencl: tests, benchmarks and the CPU plugin's ``evaluate`` use it."""

from __future__ import annotations

import functools
import re
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ov_moe.devices import opencl_list
from ov_moe.errors import DeviceError
from ov_moe.kernels.choose import pool_groups
from ov_moe.kernels.compose import compiler_options, program
from ov_moe.kernels.config import KernelConfig
from ov_moe.kernels.geometry import WorkSize, work_size
from ov_moe.kernels.stages import Stage
from ov_moe.spec import DeviceInfo, Vendor

Tensor = npt.NDArray[Any]
XMX_EXTENSION = "cl_intel_subgroup_matrix_multiply_accumulate"
VENDORS: dict[int, Vendor] = {0x8086: "intel", 0x10DE: "nvidia"}


class OpenCLDevice:
    """One device with its queue and the programs built so far.

    ``device`` is a pyopencl device, else the first GPU is taken, else the first device. With ``profiling`` its
    events carry the device's times. Raises DeviceError when there is no OpenCL platform or no device on it.
    """

    def __init__(self, device: Any = None, profiling: bool = False) -> None:
        self._cl = pyopencl = opencl_list.pyopencl()
        self.device = device if device is not None else _first_device(pyopencl)
        self._context = pyopencl.Context([self.device])
        if profiling:
            times = pyopencl.command_queue_properties.PROFILING_ENABLE
            self._queue = pyopencl.CommandQueue(self._context, properties=times)
        else:
            self._queue = pyopencl.CommandQueue(self._context)
        self._program = functools.lru_cache(maxsize=512)(self._build)
        self._kernel = functools.lru_cache(maxsize=512)(self._new_kernel)
        # A kernel object holds the arguments of the next launch: one thread at a time.
        self._launching = threading.Lock()

    @property
    def name(self) -> str:
        """Name of the device as its driver tells it."""
        return str(self.device.name).strip()

    @property
    def compute_units(self) -> int:
        """CL_DEVICE_MAX_COMPUTE_UNITS."""
        return int(self.device.max_compute_units)

    @property
    def info(self) -> DeviceInfo:
        """What a choice of kernels knows of it."""
        vendor = VENDORS.get(int(self.device.vendor_id), "other")
        subgroup = 16 if self._only_wide_subgroups else 8
        xmx = subgroup if XMX_EXTENSION in self.device.extensions.split() else 0
        return DeviceInfo(self.compute_units, xmx, vendor, subgroup)

    @property
    def _only_wide_subgroups(self) -> bool:
        try:
            return min(int(size) for size in self.device.sub_group_sizes_intel if size >= 8) > 8
        except (AttributeError, ValueError, self._cl.Error):  # no GPU of Intel's
            return False

    @property
    def pool_groups(self) -> int:
        """Work-groups for a pool that fills the device."""
        return pool_groups(self.info)

    @functools.cached_property
    def standard(self) -> str:
        """The version of OpenCL C that programs are built with, e.g. ``CL2.0``."""
        # The GPU plugin builds with 2.0; a driver of OpenCL 3.0 may have 1.2 and 3.0 alone.
        try:
            versions = {entry.version >> 22 for entry in self.device.opencl_c_all_versions}
        except (AttributeError, self._cl.Error):  # a driver, or a pyopencl, from before OpenCL 3.0
            return "CL2.0"
        return "CL3.0" if 3 in versions and 2 not in versions else "CL2.0"

    def run(
        self,
        stage: Stage,
        config: KernelConfig,
        attributes: Mapping[str, int | str],
        inputs: Sequence[Tensor],
        output: Tensor,
        size: WorkSize | None = None,
    ) -> None:
        """Run one stage; ``output`` (C-contiguous) keeps its old values where the kernel writes nothing.

        Args:
            stage: The stage.
            config: The kernel configuration.
            attributes: The operation's attributes.
            inputs: One array an input, as the kernel reads them (4-bit weights as u8). They stay as they are:
                a stage that takes tickets does so in a copy of the plan.
            output: Written in place.
            size: Work size, instead of the one that follows from the configuration.

        Raises:
            DeviceError: The program does not build, or the device refuses the launch.
        """
        text = program(
            stage,
            config,
            attributes,
            [(array.shape, array.dtype.name) for array in inputs],
            (output.shape, output.dtype.name),
        )
        sizes = {name: int(attributes[name]) for name in attributes if isinstance(attributes[name], int)}
        size = size or work_size(stage, config, sizes)
        self.launch(text, stage.entry, size, inputs, output, compiler_options(stage, config))

    def launch(
        self,
        text: str,
        entry: str,
        size: WorkSize,
        inputs: Sequence[Tensor],
        output: Tensor,
        options: tuple[str, ...] = (),
        plan: Tensor | None = None,
    ) -> None:
        """Run a composed program; its arrays may be longer than the shapes it was composed for.

        Args:
            text: The program, from ``ov_moe.kernels.compose.program``.
            entry: Name of the kernel.
            size: Work size.
            inputs: See ``run``.
            output: See ``run``.
            options: Of the OpenCL compiler, beside the language's standard.
            plan: Takes what the kernel left in the plan, its second input.

        Raises:
            DeviceError: The program does not build, or the device refuses the launch.
        """
        cl, flags = self._cl, self._cl.mem_flags
        kernel = self._kernel(text, entry, options)
        copy = flags.READ_WRITE | flags.COPY_HOST_PTR
        # Only plans (tickets) and outputs are written: weights need no copy where device and host share memory.
        use = flags.READ_ONLY | flags.USE_HOST_PTR if self.device.host_unified_memory else copy
        try:
            buffers = [
                cl.Buffer(self._context, copy if array.dtype == np.int32 else use, hostbuf=_not_empty(array))
                for array in inputs
            ]
            buffers.append(cl.Buffer(self._context, copy, hostbuf=_not_empty(output)))
            with self._launching:
                kernel(self._queue, size.global_size, (size.local_size, 1, 1), *buffers)
            if output.size:
                cl.enqueue_copy(self._queue, output, buffers[-1])
            if plan is not None:
                cl.enqueue_copy(self._queue, plan, buffers[1])
            self._queue.finish()
        except cl.Error as error:
            raise DeviceError(f"{entry} failed on {self.name}: {error}.") from error

    def _build(self, text: str, entry: str, options: tuple[str, ...]) -> Any:
        try:
            with warnings.catch_warnings():
                # Drivers that report their progress make pyopencl warn of a "non-empty compiler output".
                warnings.simplefilter("ignore", self._cl.CompilerWarning)
                program = self._cl.Program(self._context, text)
                # Where others imported pyopencl: not even then its cache, see pyopencl_import.
                return program.build([f"-cl-std={self.standard}", *options], cache_dir=False)
        except self._cl.Error as error:
            raise DeviceError(f"{entry} does not build on {self.name}: {_first_error(str(error))}.") from error

    def _new_kernel(self, text: str, entry: str, options: tuple[str, ...] = ()) -> Any:
        program = self._program(text, entry, options)
        try:
            return self._cl.Kernel(program, entry)
        except self._cl.Error as error:
            raise DeviceError(f"{entry} does not build on {self.name}: {_first_error(str(error))}.") from error


def _first_error(log: str) -> str:
    """The compiler's first complaint; the rest of the log is the cause's."""
    lines = [line.strip() for line in log.strip().splitlines()]
    return next((line for line in lines if re.search(r"\berror\b(?!.*CL_|.*FAILURE)", line)), lines[0]).rstrip(".")


def _not_empty(array: Tensor) -> Tensor:
    # OpenCL has no empty buffers.
    return np.ascontiguousarray(array) if array.size else np.zeros(1, array.dtype)


def _first_device(cl: Any) -> Any:
    devices = opencl_list.devices(cl)
    if not devices:
        raise DeviceError("OpenCL is installed but shows no device: check the driver.")
    gpus = [device for device in devices if device.type & cl.device_type.GPU]
    return (gpus or devices)[0]


@functools.cache
def default_device() -> OpenCLDevice:
    """The first GPU of OpenCL, else its first device; DeviceError when there is none."""
    return OpenCLDevice()
