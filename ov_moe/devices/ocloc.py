"""Intel's offline compiler: builds a program for a GPU that is not here and reads what became of it."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ov_moe.errors import DeviceError
from ov_moe.storage.drafts import scratch

# Gen9 and Gen12 integrated, the first discrete Xe-LP, Arc A770 (XMX, sub-groups of 8), Ponte Vecchio (XMX, of 16).
DEVICES = ("skl", "tgllp", "dg1", "acm-g10", "pvc")
OPTIONS = ("-cl-std=CL2.0",)  # as the custom layers are built

# Asks for the binary's newer form, whose .ze_info section says in text what the registers and memory are used for.
_READABLE = "-ze-allow-zebin"
# Opcodes are the low 7 bits of an instruction; a compacted one (bit 29) has 8 bytes instead of 16.
_DPAS = 0x59
_COMPACTED = 0x20
_PADDING = re.compile(r"\s*((illegal|nop)\s*|L\d+:)?")
_DISASSEMBLER = "libiga64.so"


@dataclass(frozen=True)
class Build:
    """What the compiler made of one kernel.

    Attributes:
        device: Target.
        entry: Name of the kernel.
        seconds: Wall time of the compiler's process.
        error: What it complained about, None for a build that succeeded.
        simd: Work-items of a hardware thread, as the compiler chose.
        registers: Registers of a hardware thread.
        local_bytes: Local memory of a work-group.
        spilled: Its own count of spills, 0 for none.
        memory_bytes: Memory of a hardware thread for spills and for arrays that found no place in registers.
        dpas: Matrix instructions in the code.
        instructions: All instructions in the code, padding included.
    """

    device: str
    entry: str
    seconds: float
    error: str | None = None
    simd: int = 0
    registers: int = 0
    local_bytes: int = 0
    spilled: int = 0
    memory_bytes: int = 0
    dpas: int = 0
    instructions: int = 0


def find() -> str:
    """Path of ocloc; DeviceError where it is not installed."""
    path = shutil.which("ocloc")
    if path is None:
        raise DeviceError(
            "ocloc, Intel's offline OpenCL compiler, is not installed: `apt install intel-opencl-icd` "
            "(Debian, Ubuntu) brings it; no Intel GPU is needed."
        )
    return path


def build(text: str, entry: str, device: str, options: Sequence[str] = OPTIONS) -> Build:
    """Compile a whole program and describe one of its kernels.

    Args:
        text: The program.
        entry: The kernel to describe.
        device: One of DEVICES, or another name that ocloc knows.
        options: Of the OpenCL compiler.

    Raises:
        DeviceError: ocloc is not installed, or its output is not what this module can read.
    """
    with scratch("ov-moe-ocloc") as folder:
        return _build(folder, text, entry, device, options)


def disassemble(text: str, entry: str, device: str, options: Sequence[str] = OPTIONS) -> tuple[Build, str]:
    """Compile a whole program; describe one of its kernels, and give its instructions, one a line.

    Args as of ``build``.

    Raises:
        DeviceError: As ``build``; the program does not build, or ocloc cannot disassemble here.
    """
    with scratch("ov-moe-ocloc") as folder:
        done = _build(folder, text, entry, device, options)
        if done.error is not None:
            raise DeviceError(f"{entry} does not build for {device}: {done.error.splitlines()[0].rstrip('.')}.")
        parts = folder / "parts"
        parts.mkdir()
        command = [find(), "disasm", "-file", next(folder.glob("*.bin")).name, "-device", device, "-dump", parts.name]
        said = subprocess.run(
            command, cwd=folder, env=_with_disassembler(folder), capture_output=True, check=False, text=True
        )
        code = parts / f".text.{entry}.asm"
        if not code.is_file():
            last = (f"{said.stdout}\n{said.stderr}".strip().splitlines() or ["nothing"])[-1].rstrip(".")
            raise DeviceError(
                f"ocloc does not disassemble {entry} for {device} (it says: {last}): it needs the "
                "libiga64 of Intel's compiler, which Debian and Ubuntu have in libigc1 or libigc2."
            )
        lines = code.read_text(encoding="utf-8").splitlines()
        while lines and _PADDING.fullmatch(lines[-1]):  # the compiler fills the last pages up
            lines.pop()
        return done, "".join(f"{line.rstrip()}\n" for line in lines)


def _with_disassembler(folder: Path) -> dict[str, str]:
    """This environment, with libiga64 under the name by which ocloc 22.43 loads it: Debian 12 has others alone."""
    listed = ""
    with suppress(OSError):  # no Linux
        listed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, check=False, text=True).stdout
    found = re.search(r"libiga64\.so\S* .*=> (\S+)", listed)
    if found is None:
        return dict(os.environ)
    (folder / _DISASSEMBLER).symlink_to(found[1])
    paths = (os.environ.get("LD_LIBRARY_PATH"), str(folder))  # what the user names comes first
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths))}


def _build(folder: Path, text: str, entry: str, device: str, options: Sequence[str]) -> Build:
    ocloc = find()
    (folder / "program.cl").write_text(text, encoding="utf-8")
    command = [ocloc, "compile", "-file", "program.cl", "-device", device]
    command += ["-options", " ".join(options), "-internal_options", _READABLE]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, text=True, errors="replace")
    seconds = time.perf_counter() - start
    log = f"{done.stdout}\n{done.stderr}"
    binaries = list(folder.glob("*.bin"))
    # "INVALID opcode dpas": the code generator left the instruction out and reported success, as on skl.
    if done.returncode or not binaries or "INVALID opcode" in log:
        return Build(device, entry, seconds, error=_complaint(log) or f"ocloc left with {done.returncode}")
    return _describe(binaries[0].read_bytes(), log, device, entry, seconds)


def _complaint(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if re.search(r"error|INVALID|undefined|unresolved", line)]
    return "\n".join(line for line in lines if not line.startswith("Build failed with error code"))


def _describe(binary: bytes, log: str, device: str, entry: str, seconds: float) -> Build:
    parts = elf_sections(binary)
    if ".ze_info" not in parts or f".text.{entry}" not in parts:
        raise DeviceError(
            f"ocloc's binary of {entry} for {device} holds the sections {', '.join(parts)}; .ze_info and "
            f".text.{entry} were expected: this version of ocloc writes another format."
        )
    about = _kernel_part(parts[".ze_info"].decode(), entry)
    spills = re.search(rf"kernel {entry}\b.*spilled around (\d+)", log)
    counts = _opcodes(parts[f".text.{entry}"])
    return Build(
        device,
        entry,
        seconds,
        simd=_number("simd_size", about),
        registers=_number("grf_count", about),
        local_bytes=_number("slm_size", about),
        spilled=int(spills.group(1)) if spills else 0,
        memory_bytes=_memory(about),
        dpas=counts.get(_DPAS, 0),
        instructions=sum(counts.values()),
    )


def _kernel_part(info: str, entry: str) -> str:
    kernels = info.partition("kernels_misc_info:")[0]
    found = re.search(rf"- name: +{entry}\n(.*?)(?=\n  - name:|\Z)", kernels, re.DOTALL)
    return found.group(1) if found else ""


def _number(name: str, text: str) -> int:
    found = re.search(rf"\b{name}: +(\d+)", text)
    return int(found.group(1)) if found else 0


def _memory(text: str) -> int:
    buffers = re.search(r"per_thread_memory_buffers:\n((?:      .*\n?)+)", text)
    return sum(map(int, re.findall(r"size: +(\d+)", buffers.group(1)))) if buffers else 0


def _opcodes(code: bytes) -> dict[int, int]:
    counts: dict[int, int] = {}
    place = 0
    while place + 8 <= len(code):
        opcode = code[place] & 0x7F
        counts[opcode] = counts.get(opcode, 0) + 1
        place += 8 if code[place + 3] & _COMPACTED else 16
    return counts


def elf_sections(binary: bytes) -> dict[str, bytes]:
    """The sections of a 64-bit little-endian ELF file by name; empty for anything else."""
    if binary[:5] != b"\x7fELF\x02":
        return {}
    (table,) = struct.unpack_from("<Q", binary, 0x28)
    size, count, names = struct.unpack_from("<HHH", binary, 0x3A)
    headers = [struct.unpack_from("<II3QQ", binary, table + index * size) for index in range(count)]
    name_start = headers[names][4]

    def name(offset: int) -> str:
        return binary[name_start + offset : binary.index(b"\0", name_start + offset)].decode()

    return {name(header[0]): binary[header[4] : header[4] + header[5]] for header in headers}
