"""Every family and form of block that is rewritten, in every precision and at sizes that no tile divides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ov_moe.spec import Activation
from ov_moe.testing.graphs import BlockWeights, Form, moe_block_model, route
from ov_moe.testing.unrolled import unrolled_model

E, K = 5, 2
GPT_OSS = Activation(beta=1.702, limit=7.0, up_offset=1.0)
# Experts computed on all tokens: the form, and the type of the biases.
FORMS: dict[str, tuple[Form, str]] = {
    "Qwen3-MoE": (Form(), "none"),
    "AFMoE": (Form(ends="batch", shared_expert=True), "none"),
    "GPT-OSS": (Form(GPT_OSS, "interleaved", ends="slots"), "f32"),
    "halves by a VariadicSplit": (Form(layout="halves", parts="variadic_split"), "f16"),
    "Qwen3-MoE with a shared expert": (Form(shared_expert=True), "none"),
    "Qwen3-MoE in [T, 1, H]": (Form(ends="slots"), "none"),
    "GPT-OSS with biases in f16": (Form(GPT_OSS, "interleaved", ends="slots"), "f16"),
    "GPT-OSS in [B, S, H]": (Form(GPT_OSS, "interleaved", ends="batch"), "f32"),
    "a clamp that bites": (Form(Activation(limit=0.25, up_offset=-0.5), "interleaved"), "f32"),
    "clamps with three GEMMs": (Form(Activation(beta=0.5, limit=0.5, up_offset=2.0)), "none"),
    "interleaved without biases": (Form(layout="interleaved"), "none"),
    "halves by two Slices": (Form(layout="halves"), "f32"),
    "halves by a Split": (Form(layout="halves", parts="split", ends="batch"), "none"),
    "GEGLU by tanh": (Form(Activation("geglu_tanh")), "none"),
    "GEGLU by erf": (Form(Activation("geglu_erf")), "none"),
    "ReGLU": (Form(Activation("reglu")), "none"),
    "GEGLU in halves": (Form(Activation("geglu_tanh"), "halves"), "f32"),
    "ReGLU in [B, S, H]": (Form(Activation("reglu"), "halves", "split", "batch", True), "f32"),
}
FAMILIES = (*FORMS, "unrolled", "sorted")
# 4-bit rows and groups are whole bytes; nothing else is round.
PRECISIONS: dict[str, dict[str, Any]] = {
    "f32": {"precision": "f32", "hidden": 65, "intermediate": 33},
    "f16": {"precision": "f16", "hidden": 33, "intermediate": 47},
    "u8": {"precision": "u8", "hidden": 65, "intermediate": 33},
    "i8": {"precision": "i8", "hidden": 47, "intermediate": 35},
    "u4": {"precision": "u4", "hidden": 96, "intermediate": 160, "group_size": 32},
    "u4 by channel": {"precision": "u4", "hidden": 66, "intermediate": 34, "group_size": 0},
    "u4 without zero points": {"precision": "u4", "hidden": 66, "intermediate": 34, "group_size": 2, "symmetric": True},
    "i4": {"precision": "i4", "hidden": 48, "intermediate": 80, "group_size": 16},
    "i4 by channel": {"precision": "i4", "hidden": 34, "intermediate": 66, "group_size": 0},
    "mxfp4": {"precision": "f4e2m1", "hidden": 96, "intermediate": 160, "group_size": 32},
}


@dataclass
class Example:
    """A random model of a family, and what it should give."""

    model: ov.Model
    weights: list[BlockWeights]
    hidden: int
    top_k: int

    def tokens(self, rng: np.random.Generator, batch: int, length: int) -> NDArray[np.float32]:
        """x [batch, length, H] whose router is far from a tie: rounding may not change which experts are chosen."""
        some = rng.standard_normal((20 + 4 * batch * length, self.hidden)).astype(np.float32)
        router = self.weights[0].router
        assert router is not None
        scores = np.sort(some @ router.T, axis=1)
        if self.top_k < scores.shape[1]:
            some = some[scores[:, -self.top_k] - scores[:, -self.top_k - 1] > 1e-3]
        return some[: batch * length].reshape(batch, length, self.hidden)

    def oracle(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """y of a model of one block, in float64."""
        (weights,) = self.weights
        tokens = x.reshape(-1, self.hidden).astype(np.float64)
        y = weights.oracle(tokens, *route(tokens, weights, self.top_k, "softmax"))
        if weights.shared is not None:
            y = y + tokens @ weights.shared.T.astype(np.float64)
        return y.reshape(x.shape)


def example(family: str, rng: np.random.Generator, **options: Any) -> Example:
    """A model of ``family`` (see FAMILIES) with options of its builder, e.g. from PRECISIONS."""
    options = {"experts": E, "top_k": K} | options
    if family in FORMS:
        form, biases = FORMS[family]
        model, weights = moe_block_model(rng=rng, form=form, biases=biases, **options)  # type: ignore[arg-type]
    else:
        model, weights = unrolled_model(family, rng=rng, **options)  # type: ignore[arg-type]
    return Example(model, weights, options["hidden"], options["top_k"])
