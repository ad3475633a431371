"""The package as it is shipped: the wheel's contents, what importing costs, who imports whom."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import ov_moe

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ov_moe"

# Lowest first: a module imports from lower layers and from its own folder. Whatever is not named here (optimizer,
# compiler, demo, ...) wires the layers together and is above all of them; nobody imports the command line.
LAYERS = (
    {"element_types", "errors", "spec"},
    {"arguments", "children", "openvino_errors", "storage"},
    {"kernels"},
    {"options"},
    {"devices", "virtual_gpu"},
    {"reference"},
    {"ops"},
    {"transformations"},
)
WIRING = len(LAYERS)
# The virtual GPU stands on a device's runtime, and the choice of a device may start it.
KNOW_EACH_OTHER = {"devices", "virtual_gpu"}

# Where OpenVINO must stay out: kernels are text, and the virtual GPU has to start before it.
WITHOUT_OPENVINO = (
    "kernels",
    "kernel_bench",
    "kernel_show",
    "virtual_gpu",
    "devices/intel_cpu_runtime",
    "devices/opencl",
    "devices/opencl_list",
    "devices/timing",
    "errors",
    "element_types",
    "spec",
    "arguments",
    "children",
    "openvino_errors",
    "storage",
    "options",
    "commands",
    "cli",
    "devices/place",
)
# Imported by processes that have OpenVINO already; a function asks for it.
IN_A_FUNCTION = {"commands/tokenizer.py"}


def rank(module: str) -> int:
    """The layer of a top-level module of the package."""
    return next((index for index, layer in enumerate(LAYERS) if module in layer), WIRING)


def sources(folder: Path = PACKAGE) -> Iterator[Path]:
    """Every Python file of the package; rglob would not follow its two symbolic links."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from sources(path)
        elif path.suffix == ".py":
            yield path


def imported(path: Path) -> Iterator[str]:
    """Absolute names of the modules that a file imports, inside its functions too."""
    package = ("ov_moe", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{name}.{alias.name}" for alias in node.names) if name == "ov_moe" else (name,)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy: a build leaves its own files beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "sources"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("ov_moe", "cl", "transformations"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(copy)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    kinds = (
        "*.py",
        "cl/*.cl",
        "virtual_gpu/*.c",
        "virtual_gpu/*.h",
        "demo/model/*",
        "kernel_bench/cl/*.cl",
        "kernel_bench/data/*",
        "py.typed",
        "transformations/*/*.py",
        "testing/*.py",
    )
    expected = {f"ov_moe/{path.relative_to(PACKAGE).as_posix()}" for path in sources()}
    for kind in kinds:
        found = {f"ov_moe/{path.relative_to(PACKAGE).as_posix()}" for path in PACKAGE.glob(kind)}
        assert found, f"no file {kind} in the sources"
        expected |= found
    shipped = {name for name in wheel.namelist() if name.startswith("ov_moe/")}
    assert shipped == expected
    assert "ov_moe/transformations/rewrite.py" in shipped
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


def test_wheel_works_without_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = (
        "import ov_moe.demo, ov_moe.transformations.families\n"
        "from ov_moe.kernels import compose, stages\n"
        "from ov_moe.kernels.config import KernelConfig\n"
        "from ov_moe.kernel_bench.schedules import MICRO_KERNELS\n"
        "settings = [KernelConfig('grid', 'ticket', 1, kind()) for kind in MICRO_KERNELS.values()]\n"
        "assert all(compose.stage_source(stage, setting) for stage in stages.STAGES for setting in settings)\n"
        "print(ov_moe.demo.MODEL)\n"
    )
    # -P is not in Python 3.10: the folder to start in must hold no other ov_moe.
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "ov_moe" / "demo" / "model")


@pytest.mark.parametrize("module", ["ov_moe", "ov_moe.cli", "ov_moe.virtual_gpu", "ov_moe.devices.place"])
def test_importing_does_not_import_openvino(module: str) -> None:
    code = f"import sys, {module}; sys.exit('openvino' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_resolve() -> None:
    assert [name for name in ov_moe.__all__ if getattr(ov_moe, name, None) is None] == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ov_moe.nothing


def test_layers_import_only_downwards() -> None:
    wrong = []
    for path in sources():
        here = path.relative_to(PACKAGE)
        if len(here.parts) == 1 and here.stem == "__init__":
            continue  # resolves public names on demand
        mine = here.parts[0].removesuffix(".py")
        for name in imported(path):
            theirs = name.split(".")[1] if name.startswith("ov_moe.") else mine
            upwards = rank(theirs) >= rank(mine) != WIRING and not {mine, theirs} <= KNOW_EACH_OTHER
            if theirs != mine and (upwards or theirs == "cli"):
                wrong.append(f"{here} imports {name}")
    assert wrong == []


@pytest.mark.parametrize("part", WITHOUT_OPENVINO)
def test_openvino_stays_out_of(part: str) -> None:
    files = [path for path in sources() if path.relative_to(PACKAGE).as_posix().startswith((f"{part}/", f"{part}.py"))]
    assert files
    files = [path for path in files if path.relative_to(PACKAGE).as_posix() not in IN_A_FUNCTION]
    names = {name for path in files for name in imported(path)}
    assert not any(name.split(".")[0] == "openvino" for name in names)
