"""Random blocks of any size, format and form: the kernels and the rewritten model agree with the float64 oracle."""

from __future__ import annotations

from typing import Any, NamedTuple

import bounds
import numpy as np
import openvino as ov
from blocks import random_block, random_ids, same_bits
from exported import EXACT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_cases import config

import ov_moe
from ov_moe.devices.opencl import default_device
from ov_moe.spec import Activation
from ov_moe.testing.families import FAMILIES, FORMS, example

# Every block compiles four or more programs: some tenths of a second.
KERNELS = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
MODELS = settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
PRECISIONS = ("f32", "f16", "u8", "i8", "u4", "i4", "f4e2m1")
FOUR_BIT = {"u4", "i4", "f4e2m1"}
ACTIVATIONS = st.builds(
    Activation,
    kind=st.sampled_from(["swiglu", "geglu_tanh", "geglu_erf", "reglu"]),
    beta=st.sampled_from([1.0, 1.702, -0.5, 0.0]),
    limit=st.sampled_from([None, 7.0, 0.25]),
    up_offset=st.sampled_from([0.0, 1.0, -0.3]),
)


class Sizes(NamedTuple):
    """E, k, H, I, the group size (0: one scale a channel) and a precision for each projection."""

    experts: int
    top_k: int
    hidden: int
    intermediate: int
    group: int
    kinds: tuple[str, ...]


@st.composite
def sizes(draw: st.DrawFn, projections: int) -> Sizes:
    """Sizes that the formats allow: groups divide K, and rows and groups of 4 bits are whole bytes."""
    experts = draw(st.integers(1, 20))
    kinds = tuple(draw(st.sampled_from(PRECISIONS)) for _ in range(projections))
    group = draw(st.sampled_from([0, 2, 6, 16, 32]))
    side = st.integers(1, 3).map(lambda n: n * group) if group else st.integers(1, 70)
    hidden, intermediate = draw(side), draw(side)
    hidden += hidden % 2 and bool(FOUR_BIT & set(kinds[:-1]))
    intermediate += intermediate % 2 and kinds[-1] in FOUR_BIT
    return Sizes(experts, draw(st.integers(1, min(experts, 5))), hidden, intermediate, group, kinds)


def some_padded(rng: np.random.Generator, ids: np.ndarray, share: float) -> np.ndarray:
    return np.where(rng.random(ids.shape) < share, -1, ids).astype(ids.dtype)


@KERNELS
@given(st.data())
def test_kernels_agree_with_the_oracle(data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from(["separate", "interleaved", "halves"]), "layout")
    size = data.draw(sizes(3 if layout == "separate" else 2), "sizes")
    tokens = data.draw(st.integers(0, 70), "T")
    share = data.draw(st.sampled_from([0.0, 0.3, 1.0]), "padded")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    block = random_block(
        rng,
        tokens=tokens,
        experts=size.experts,
        top_k=size.top_k,
        hidden=size.hidden,
        intermediate=size.intermediate,
        precision=size.kinds,  # type: ignore[arg-type]
        group=size.group,
        zero=data.draw(st.booleans(), "zero points"),
        ids=some_padded(rng, random_ids(rng, tokens, size.experts, size.top_k), share),
        max_tokens=tokens + data.draw(st.integers(0, 9), "absent") or 1,
        dtype=data.draw(st.sampled_from([np.float32, np.float16]), "buffers"),
        scale_dtype=data.draw(st.sampled_from([np.float32, np.float16]), "scales"),
        layout=layout,
        activation=data.draw(ACTIVATIONS, "activation"),
        biases=data.draw(st.sampled_from([None, np.float32, np.float16]), "biases"),
    )
    setting = config(data.draw(st.sampled_from(["grid", "ticket", "stride"]), "schedule"), groups=3)
    y = block.run(default_device(), setting)
    bounds.error(block, y).check()
    alone = (block.ids < 0).all(axis=1)
    assert not y[:tokens][alone[:tokens]].any()
    assert same_bits(y[tokens:], np.full_like(y[tokens:], np.nan))


@MODELS
@given(st.data())
def test_rewritten_models_agree_with_the_oracle(data: st.DataObject) -> None:
    family = data.draw(st.sampled_from(FAMILIES), "family")
    fused = family == "sorted" or (family in FORMS and FORMS[family][0].layout != "separate")
    size = data.draw(sizes(2 if fused else 3), "sizes")
    share = data.draw(st.sampled_from([None, 0.0, 0.3]), "padded ids, or a router")
    batch, length = data.draw(st.integers(1, 3), "batch"), data.draw(st.integers(1, 12), "length")
    # The model with ids for its inputs is [T, H], but these forms give [B, S, H].
    router = share is None or (family in FORMS and FORMS[family][0].ends == "batch")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    options: dict[str, Any] = {"group_size": size.group, "symmetric": data.draw(st.booleans(), "symmetric")}
    if family in FORMS:
        options["group_size_8bit"] = size.group
    given_model = example(
        family,
        rng,
        experts=size.experts,
        top_k=size.top_k,
        hidden=size.hidden,
        intermediate=size.intermediate,
        precision=size.kinds,
        topk_as_inputs=not router,
        **options,
    )
    model, (weights,) = given_model.model, given_model.weights
    report = ov_moe.optimize(model, max_tokens=data.draw(st.integers(1, 9), "max_tokens"))
    assert (len(report.rewritten), report.skipped) == (1, ()), str(report)
    compiled = ov_moe.compile_model(ov.Core(), model, "CPU", EXACT)
    if router:
        x = given_model.tokens(rng, batch, length)
        y, expected = compiled(x)[0], given_model.oracle(x)
    else:
        tokens = batch * length
        ids = some_padded(rng, random_ids(rng, tokens, size.experts, size.top_k), share or 0.0)
        factors = rng.random(ids.shape).astype(np.float32)
        x = rng.standard_normal((tokens, size.hidden)).astype(np.float32)
        kind, shape = model.input("ids").get_element_type().to_dtype(), model.input("x").get_partial_shape()
        inputs = {"x": x if len(shape) == 2 else x[None], "ids": ids.astype(kind), "weights": factors}
        y = compiled(inputs)["y"].reshape(x.shape)
        expected = weights.oracle(x, ids, factors)
        if weights.shared is not None:
            expected = expected + x.astype(np.float64) @ weights.shared.T
    assert y.shape == expected.shape
    # Numbers of about 1 all the way: more than that is no rounding of fp32.
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * max(1.0, float(np.abs(expected).max())))
