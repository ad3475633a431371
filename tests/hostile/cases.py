"""The models that are changed, and how one changed model is judged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

import ov_moe
from hostile.client import ForkServer, Outcome
from hostile.job import FEW, ROOM
from hostile.mutate import IR, Mutation, load, mutate
from ov_moe.testing.families import GPT_OSS
from ov_moe.testing.graphs import Form, moe_block_model
from ov_moe.testing.unrolled import unrolled_model

E, K, H, I = 4, 2, 32, 16  # noqa: E741
SIZES: dict[str, Any] = {"experts": E, "top_k": K, "hidden": H, "intermediate": I, "group_size": 16}
# One decode step, and a prompt of two chunks.
LENGTHS = (3, ROOM + 3)
# Nothing that these change may change a result.
HARMLESS = frozenset({"name", "all names", "port dims"})
# A Reshape and the like say how rows lie, not which: ov-moe leaves them out, and a wrong one fails where they run.
_VIEWS = re.compile(r"\b(Reshape|Broadcast|Squeeze|Unsqueeze|Transpose|Tile)\b")
# f32 both, but sums in another order; and what a hostile scale makes of it is rounded with it.
LIMIT = 1e-4
SENTENCE = 1000  # characters


@dataclass(frozen=True)
class Base:
    """A model that is saved once and changed many times.

    Attributes:
        path: Its IR.
        way: ``optimize`` for an original, ``compile`` for a rewritten one.
        inputs: Element type and number of columns of each input; x first.
        batch: Whether x is [1, T, H].
        gathers: Whether the unfused form computes an expert on its own tokens only: then NaN in an expert's weights
            reaches no other token, as in the kernels. Else 0 * NaN reaches all.
        clamps: Whether it clamps between the projections: Minimum and Clamp of the CPU plugin turn NaN into a bound,
            the kernels pass it on.
    """

    name: str
    path: Path
    way: str
    inputs: tuple[tuple[str, int], ...]
    batch: bool
    gathers: bool
    clamps: bool


def bases(folder: Path) -> dict[str, Base]:
    """Originals of the three families, and each again as it was rewritten."""
    rng = np.random.default_rng(1)
    inputs = ("float32", H), ("int32", K), ("float32", K)
    long = ("float32", H), ("int64", K), ("float32", K)
    gpt = Form(GPT_OSS, "interleaved", ends="slots")
    made = {
        "tiled int4, ids given": (moe_block_model(rng=rng, topk_as_inputs=True, **SIZES), inputs, False),
        "tiled int4, router": (moe_block_model(rng=rng, **SIZES), inputs[:1], True),
        "fused mxfp4": (
            moe_block_model(rng=rng, form=gpt, biases="f16", **{**SIZES, "precision": "f4e2m1", "intermediate": 32}),
            inputs[:1],
            True,
        ),
        "fused int8, ids given": (
            moe_block_model(rng=rng, form=gpt, biases="f32", topk_as_inputs=True, **{**SIZES, "precision": "i8"}),
            inputs,
            False,
        ),
        "unrolled f16": (unrolled_model("unrolled", rng=rng, **{**SIZES, "precision": "f16"}), inputs[:1], True),
        "sorted int4, ids given": (unrolled_model("sorted", rng=rng, topk_as_inputs=True, **SIZES), long, True),
    }
    found = {}
    for name, ((model, _), kinds, batch) in made.items():
        gathers = name.startswith(("unrolled", "sorted"))
        for way in ("optimize", "compile"):
            base = Base(
                f"{name}, {way}", folder / f"{len(found)}.xml", way, kinds, batch, gathers, name.startswith("fused")
            )
            if way == "compile":
                report = ov_moe.optimize(model, max_tokens=ROOM, few_tokens=FEW)
                assert len(report.rewritten) == 1, str(report)
            ov.save_model(model, base.path, compress_to_fp16=False)
            found[base.name] = base
    return found


def inputs_of(base: Base, ir: IR) -> dict[str, np.ndarray]:
    """Arrays by "<run>/<input>"; ids and x as the changes say."""
    rng, arrays = np.random.default_rng(2), {}
    for run, length in enumerate(LENGTHS):
        for index, (kind, columns) in enumerate(base.inputs):
            if kind == "float32":
                array = rng.standard_normal((length, columns)).astype(np.float32)
                array = np.abs(array) if index else array
            else:
                array = np.argsort(rng.random((length, E)))[:, :columns].astype(kind)
            if ir.x is not None and index == 0:
                with np.errstate(over="ignore"):
                    array[length // 2, 5] = ir.x
            if ir.ids is not None and kind != "float32":
                info = np.iinfo(kind)
                array[length // 2, 1] = min(max(ir.ids, info.min), info.max)
            arrays[f"{run}/{index}"] = array[None] if base.batch and index == 0 else array
    return arrays


@dataclass(frozen=True)
class Verdict:
    """What became of a case: the outcome's name for the count, and what is wrong with it, if anything."""

    outcome: str
    fault: str = ""


@dataclass
class Judge:
    """Runs changed models and says what is wrong."""

    server: ForkServer
    folder: Path

    def judge(
        self, base: Base, mutations: Sequence[Mutation], device: str, evaluate: str, survey: bool = False
    ) -> Verdict:
        """The verdict on one case; ``survey`` is what a command does with a folder before it writes."""
        ir = load(base.path)
        for mutation in mutations:
            mutate(ir, mutation)
        for old in self.folder.iterdir():
            old.unlink()
        np.savez(self.folder / "inputs.npz", **inputs_of(base, ir))
        path = ir.save(self.folder)
        if survey:
            found = self._run(path, "survey", device, evaluate)
            return Verdict(f"survey: {found.how}", _of_itself(found))
        found = self._run(path, base.way, device, evaluate)
        fault = _of_itself(found)
        if base.way == "optimize" and (fault or found.how in ("results", "died", "late")):
            return self._beside_openvino(base, ir, found, fault)
        if base.way == "compile" and found.how == "results" and not fault:
            return self._beside_itself(base, ir, mutations, device, evaluate)
        return Verdict(f"{found.how} at {found.stage}", fault)

    def _beside_openvino(self, base: Base, ir: IR, found: Outcome, fault: str) -> Verdict:
        """An original: the same model as OpenVINO runs it, with ids that a router gives."""
        np.savez(self.folder / "inputs.npz", **inputs_of(base, replace(ir, ids=None)))
        plain = self._run(self.folder / "model.xml", "plain", "CPU", "numpy")
        if found.how in ("died", "late"):
            if plain.how == found.how:
                return Verdict(f"OpenVINO itself {found.how}")
            return Verdict(found.how, f"{fault}; OpenVINO: {plain}")
        if fault:
            return Verdict("wrong", f"{fault}; OpenVINO: {plain}")
        if plain.how == "results":
            return self._beside_its_results(base, ir)
        # A view that OpenVINO refuses is none of a block's; its crash is its own.
        known = plain.how in ("died", "late") or _VIEWS.search(plain.message)
        return Verdict(f"results where OpenVINO: {plain.how}", "" if known else f"OpenVINO: {plain}")

    def _beside_its_results(self, base: Base, ir: IR) -> Verdict:
        mine, other = self._load("optimize"), self._load("plain")
        wrong = _set_apart(mine, other, ir.ids) if ir.ids is not None and len(base.inputs) > 1 else ""
        differs = _differs(mine, other, base.gathers, base.clamps and _not_finite(ir))
        return Verdict("results, right", wrong or differs)

    def _beside_itself(self, base: Base, ir: IR, mutations: Sequence[Mutation], device: str, evaluate: str) -> Verdict:
        """A rewritten model: as it was before a change without consequence, else the two that compute on the CPU.

        NumPy gets ids that a router gives: it refuses others, and the GPU gives NaN.
        """
        mine = self._load("compile")
        np.savez(self.folder / "inputs.npz", **inputs_of(base, replace(ir, ids=None)))
        if all(mutation.kind in HARMLESS for mutation in mutations):
            first = self._run(base.path, "compile", device, evaluate)
            return Verdict("results, as before", _of_itself(first) or _differs(mine, self._load("compile")))
        if evaluate == "numpy" and device == "CPU":
            return Verdict("results")
        other = self._run(self.folder / "model.xml", "compile", "CPU", "numpy")
        if other.how != "results":
            return Verdict("results where NumPy refuses", f"NumPy: {other}")
        wrong = _set_apart(mine, self._load("compile"), ir.ids) if ir.ids is not None and len(base.inputs) > 1 else ""
        # A channel's scale multiplies the sum or each weight: infinity then is a sum that is clamped, or NaN.
        clamped = base.clamps and _not_finite(ir)
        differs = _differs(mine, self._load("compile"), same_nan=not clamped, may_nan=clamped)
        return Verdict("results, as NumPy's", wrong or differs)

    def _run(self, path: Path, way: str, device: str, evaluate: str) -> Outcome:
        return self.server.run(
            read=path,
            way=way,
            device=device,
            evaluate=evaluate,
            inputs=self.folder / "inputs.npz",
            results=self.folder / f"{way}.npz",
        )

    def _load(self, way: str) -> dict[str, np.ndarray]:
        with np.load(self.folder / f"{way}.npz") as results:
            return dict(results)


def _differs(
    mine: dict[str, np.ndarray], other: dict[str, np.ndarray], same_nan: bool = True, may_nan: bool = False
) -> str:
    """Where the results of two models differ, if anywhere; NaN stands where the other has it, or may also elsewhere."""
    for run, expected in other.items():
        y = mine[run]
        if y.shape != expected.shape or y.dtype != expected.dtype:
            return f"run {run}: {y.dtype} {y.shape} instead of {expected.dtype} {expected.shape}"
        finite = np.isfinite(expected)
        if same_nan and np.isfinite(y[~finite]).any():
            return f"run {run}: {np.isfinite(y[~finite]).sum()} are finite that are not"
        if may_nan:
            finite &= np.isfinite(y)
        if not np.isfinite(y[finite]).all():
            return f"run {run}: {(~np.isfinite(y[finite])).sum()} of {y.size} are not finite"
        off = np.abs(y[finite].astype(np.float64) - expected[finite])
        scale = np.abs(expected[finite].astype(np.float64)).max(initial=0.0)
        wrong = off > LIMIT * scale + 1e-30
        if wrong.any():
            return f"run {run}: {wrong.sum()} of {off.size} are off by up to {off.max():.3g} of {scale:.3g}"
    return ""


def _of_itself(found: Outcome) -> str:
    """What is wrong with an outcome, whatever the model."""
    if found.how in ("died", "late", "wrong"):
        return str(found)
    if "Traceback" in found.stderr:
        return f"a traceback: {found}"
    if found.how == "sentence" and ("\n" in found.message or len(found.message) > SENTENCE):
        return f"no sentence, {len(found.message)} characters: {found.message[:SENTENCE]}"
    if found.how == "sentence" and not found.message.rstrip().endswith("."):
        return f"no sentence: {found.message}"
    return ""


def _not_finite(ir: IR) -> bool:
    """Whether a constant of floats or an input holds NaN or infinity."""
    return ir.x is not None or any(not np.isfinite(values).all() for values in ir.floats())


def _set_apart(mine: dict[str, np.ndarray], other: dict[str, np.ndarray], hostile: int) -> str:
    """Take the token with a hostile id out of both; what is wrong with it, if anything: such an id gives NaN.

    -1 and -2 are padding, which contributes nothing. Both plugins take an i64 input by its lower 32 bits, whatever
    reads it: 2^32 + 3 is 3 before any operation sees it.
    """
    hostile = (hostile + 2**31) % 2**32 - 2**31
    for run, y in mine.items():
        rows, token = y.reshape(-1, H), LENGTHS[int(run)] // 2
        if rows.shape != other[run].reshape(-1, H).shape:
            return f"run {run}: another shape, {y.shape}"
        if not -2 <= hostile < E and not np.isnan(rows[token]).all():
            return f"run {run}: token {token} has an id of {hostile} and a result"
        rows[token] = other[run].reshape(-1, H)[token]
    return ""
