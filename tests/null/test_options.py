"""The options: defaults that agree with the code they stand for, variables, refusals, documentation."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from micro_kernels import WORDS

import ov_moe
import ov_moe.compiler
import ov_moe.genai
import ov_moe.optimum
from ov_moe.devices.intel_cpu_runtime import cache_folder
from ov_moe.errors import InvalidInputError
from ov_moe.kernels.choose import choose_config
from ov_moe.options import Config, unknown_variables

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (ov_moe.optimize, {"balance", "max_tokens", "few_tokens"}),
        (ov_moe.optimum.optimize, {"balance", "max_tokens", "few_tokens"}),
        (ov_moe.genai.optimize, {"balance", "max_tokens", "few_tokens"}),
        (ov_moe.compile_model, {"fetch", "groups", "micro_kernel"}),
        (ov_moe.compiler.prepare, {"fetch", "groups", "micro_kernel"}),
    ],
)
def test_functions_leave_their_defaults_to_the_config(function: Callable[..., object], options: set[str]) -> None:
    """test_compile_options.py shows that they read it."""
    parameters = inspect.signature(function).parameters
    own = {name for name in parameters if hasattr(Config(), name)}
    assert own == options
    assert all(parameters[name].default is None for name in own)


def test_the_defaults_of_the_kernels_are_those_of_the_config() -> None:
    parameters = inspect.signature(choose_config).parameters
    assert (parameters["fetch"].default, parameters["groups"].default) == (Config().fetch, Config().groups)


def test_an_argument_comes_before_its_variable() -> None:
    environment = {"OV_MOE_BALANCE": "no such word", "OV_MOE_MAX_TOKENS": "77"}
    found = Config.from_environment(environment, balance="off", max_tokens=None)
    assert (found.balance, found.max_tokens, found.few_tokens) == ("off", 77, 64)
    with pytest.raises(InvalidInputError, match=r"^max_tokens is 0, it must be a whole number from 1 to 65536"):
        Config.from_environment({"OV_MOE_MAX_TOKENS": "77"}, max_tokens=0)


def test_every_variable_overrides_its_option() -> None:
    environment = {
        "OV_MOE_BALANCE": "on",
        "OV_MOE_MAX_TOKENS": "77",
        "OV_MOE_FEW_TOKENS": "8",
        "OV_MOE_FETCH": "stride",
        "OV_MOE_GROUPS": "5",
        "OV_MOE_MICRO_KERNEL": "dpas",
        "OV_MOE_EVALUATE": "numpy",
        "OV_MOE_VIRTUAL_GPU": "1",
        "OV_MOE_CACHE": "/cache",
        "OV_MOE_VGPU_CACHE": "",
        "OV_MOE_VGPU_FAST_BUILD": "0",
        "OV_MOE_VGPU_HOLD_SECONDS": "10",
    }
    expected = Config("on", 77, 8, "stride", 5, "dpas", "numpy", True, Path("/cache"), "", False, 10)
    assert Config.from_environment(environment) == expected
    assert {option.variable for option in expected.options(environment) if option.changed} == set(environment)
    assert len(environment) == len(fields(Config))


@pytest.mark.parametrize(
    ("value", "on"),
    [
        *((word, False) for word in ("", "0", "false", "OFF", "No")),
        *((word, True) for word in ("1", "True", "on", "YES ")),
    ],
)
def test_the_virtual_gpu_is_on_for_what_the_import_takes_as_on(value: str, on: bool) -> None:
    assert Config.from_environment({"OV_MOE_VIRTUAL_GPU": value}).virtual_gpu == on
    code = "import os, ov_moe.options, sys; sys.exit('ov_moe.virtual_gpu' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env={"OV_MOE_VIRTUAL_GPU": value}, check=False)
    assert bool(done.returncode) == on


def test_a_value_that_is_no_switch_is_said_by_what_reads_the_options() -> None:
    """Not by the import, which a command could not turn into a sentence."""
    code = (
        "import sys, ov_moe\n"
        "assert 'ov_moe.virtual_gpu' not in sys.modules\n"
        "from ov_moe.cli import run\n"
        "sys.argv = ['ov-moe', 'doctor']\n"
        "run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OV_MOE_VIRTUAL_GPU": "maybe"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "ov-moe: OV_MOE_VIRTUAL_GPU is 'maybe', it must be 1, true, yes or on, or 0, false, no or off.\n"
    )


def test_one_option_does_not_need_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OV_MOE_GROUPS", "none")
    monkeypatch.setenv("OV_MOE_EVALUATE", "")
    monkeypatch.setenv("OV_MOE_CACHE", "/somewhere/else")
    assert Config.value_of("evaluate") == "auto"
    assert cache_folder() == Path("/somewhere/else")
    monkeypatch.setenv("OV_MOE_EVALUATE", "gpu")
    with pytest.raises(InvalidInputError, match="OV_MOE_EVALUATE: evaluate is 'gpu'"):
        Config.value_of("evaluate")


def test_an_empty_variable_leaves_the_default() -> None:
    assert Config.from_environment({"OV_MOE_BALANCE": "", "OV_MOE_GROUPS": ""}) == Config()


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("OV_MOE_BALANCE", "yes", "OV_MOE_BALANCE: balance is 'yes', it must be 'auto', 'on' or 'off'."),
        ("OV_MOE_FETCH", "random", "OV_MOE_FETCH: fetch is 'random', it must be 'ticket' or 'stride'."),
        ("OV_MOE_EVALUATE", "gpu", "OV_MOE_EVALUATE: evaluate is 'gpu', it must be 'auto', 'opencl' or 'numpy'."),
        (
            "OV_MOE_MICRO_KERNEL",
            "mma",
            f"OV_MOE_MICRO_KERNEL: micro_kernel is 'mma', it must be {WORDS}.",
        ),
        ("OV_MOE_MAX_TOKENS", "many", "OV_MOE_MAX_TOKENS is 'many', it must be a whole number."),
        ("OV_MOE_MAX_TOKENS", "0", "max_tokens is 0, it must be a whole number from 1 to 65536."),
        ("OV_MOE_GROUPS", "0", "OV_MOE_GROUPS: groups is 0, it must be a whole number from 1 to 1048576."),
        ("OV_MOE_VGPU_HOLD_SECONDS", "-1", "vgpu_hold_seconds is -1"),
        *(
            (variable, value, f"{variable} is {value!r}, it must be 1, true, yes or on, or 0, false, no or off.")
            for variable in ("OV_MOE_VIRTUAL_GPU", "OV_MOE_VGPU_FAST_BUILD")
            for value in ("maybe", "2", "-", " ")
        ),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(variable: str, value: str, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(sentence)) as caught:
        Config.from_environment({variable: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"virtual_gpu": "maybe"}, "virtual_gpu is of type str, it must be True or False."),
        ({"vgpu_fast_build": 1}, "vgpu_fast_build is of type int, it must be True or False."),
        ({"cache_folder": 5}, "cache_folder is of type int, it must be a pathlib.Path."),
        ({"vgpu_cache": 5}, "vgpu_cache is of type int, it must be a folder's name as text, or None."),
    ],
)
def test_every_instance_is_valid(options: dict[str, Any], sentence: str) -> None:
    for make in (Config, Config.from_environment):
        with pytest.raises(InvalidInputError, match=f"^{re.escape(sentence)}$"):
            make(**options)


@pytest.mark.parametrize(
    ("environment", "arguments", "few", "most"),
    [
        ({}, {}, 64, 512),
        ({}, {"max_tokens": 16}, 16, 16),
        ({"OV_MOE_MAX_TOKENS": "16"}, {}, 16, 16),
        ({}, {"few_tokens": 100}, 100, 512),
        ({"OV_MOE_FEW_TOKENS": "100"}, {}, 100, 512),
        ({"OV_MOE_MAX_TOKENS": "2048"}, {"few_tokens": 1000}, 1000, 2048),
        ({"OV_MOE_FEW_TOKENS": "1000"}, {"max_tokens": 2048}, 1000, 2048),
        ({"OV_MOE_FEW_TOKENS": "1000", "OV_MOE_MAX_TOKENS": "2048"}, {}, 1000, 2048),
        ({}, {"few_tokens": 512, "max_tokens": 512}, 512, 512),
    ],
)
def test_few_tokens_follow_max_tokens_unless_given(
    environment: dict[str, str], arguments: dict[str, int], few: int, most: int
) -> None:
    found = Config.from_environment(environment, **arguments)
    assert (found.few_tokens, found.max_tokens) == (few, most)
    if not environment:
        assert Config(**arguments) == found


@pytest.mark.parametrize(
    ("environment", "arguments", "few", "most"),
    [
        ({}, {"few_tokens": 1000}, 1000, 512),
        ({"OV_MOE_FEW_TOKENS": "1000"}, {}, 1000, 512),
        ({"OV_MOE_MAX_TOKENS": "63"}, {"few_tokens": 64}, 64, 63),
        ({"OV_MOE_FEW_TOKENS": "64"}, {"max_tokens": 63}, 64, 63),
    ],
)
def test_few_tokens_above_max_tokens_are_refused(
    environment: dict[str, str], arguments: dict[str, int], few: int, most: int
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Config.from_environment(environment, **arguments)
    assert str(caught.value) == (
        f"few_tokens is {few}, more than the {most} of max_tokens: raise max_tokens (OV_MOE_MAX_TOKENS) too, or lower "
        "few_tokens (OV_MOE_FEW_TOKENS)."
    )


def test_one_of_both_options_is_read_beside_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OV_MOE_FEW_TOKENS", "1000")
    monkeypatch.setenv("OV_MOE_MAX_TOKENS", "2048")
    assert (Config.value_of("few_tokens"), Config.value_of("max_tokens")) == (1000, 2048)


def test_an_unknown_option_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(InvalidInputError, match=r"^There is no option 'foo': the options are balance, max_tokens, "):
        Config.from_environment(foo=1)


def test_misspelt_variables_are_found() -> None:
    environment = {"OV_MOE_BALANCED": "on", "OV_MOE_BALANCE": "on", "OV_MOE_COMMIT": "x", "OTHER": "y"}
    assert unknown_variables(environment) == ("OV_MOE_BALANCED",)


def test_variables_that_the_sources_read_are_options() -> None:
    """What the package reads must be documented, the C library of the virtual GPU included."""
    package = Path(ov_moe.__file__).parent
    sources = [path for pattern in ("**/*.py", "**/*.c") for path in package.glob(pattern)]
    text = "".join(path.read_text(encoding="utf-8") for path in sources if path.name != "config.py")
    read = set(re.findall(r"""(?:getenv\(|environ(?:\.get\(|\.setdefault\(|\[)|VARIABLE = )"(OV_MOE_\w+)\"""", text))
    assert len(read) >= 3
    assert unknown_variables(dict.fromkeys(read, "")) == ()


def test_every_option_is_documented_with_its_default() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = {row.split("|")[1].strip(): row for row in text.splitlines() if row.startswith("| `")}
    assert set(rows) == {f"`{option.name}`" for option in Config().options({})}
    for option in Config().options({}):
        row = rows[f"`{option.name}`"]
        assert f"`{option.variable}`" in row
        if option.name != "cache_folder":
            assert f"| {option.default} |" in row
        assert option.why in row
