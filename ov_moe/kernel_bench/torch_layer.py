"""A MoE layer through torch._grouped_mm in bfloat16; torch is handed in, importing this needs none."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from ov_moe import reference
from ov_moe.errors import DeviceError
from ov_moe.kernel_bench import oracle
from ov_moe.kernel_bench.case import Inputs
from ov_moe.kernel_bench.weights import ABSENT, StoredBlock
from ov_moe.spec import Activation

BF16_EPS = 2.0**-7


class TorchLayer:
    """The weights of a block in bfloat16 on a torch device, gate rows in front of up rows."""

    def __init__(self, torch: Any, block: StoredBlock, device: str = "cuda") -> None:
        self.torch, self.spec, self.device = torch, block.spec, device
        experts, h, i = block.spec.experts, block.spec.hidden, block.spec.intermediate
        self.gate_up = torch.empty(experts, 2 * i, h, dtype=torch.bfloat16, device=device)
        self.down = torch.empty(experts, h, i, dtype=torch.bfloat16, device=device)

        def fill(expert: int) -> None:
            if block.up is None:
                gate, up = reference.split_gate_up(block.gate.dense(expert)[None], block.spec.layout)
                both = np.concatenate([gate[0], up[0]])
            else:
                both = np.concatenate([block.gate.dense(expert), block.up.dense(expert)])
            self.gate_up[expert] = torch.from_numpy(both.astype(np.float32)).to(device, torch.bfloat16)
            down = block.down.dense(expert).astype(np.float32)
            self.down[expert] = torch.from_numpy(down).to(device, torch.bfloat16)

        with ThreadPoolExecutor(oracle.threads()) as pool:
            list(pool.map(fill, range(experts)))
        self.gate_up_bias = self.down_bias = None
        if block.gate_bias is not ABSENT:
            parts = reference.split_gate_up(block.gate_bias.astype(np.float64), block.spec.layout)
            self.gate_up_bias = self._real(np.concatenate(parts, axis=1))
        if block.down_bias is not ABSENT:
            self.down_bias = self._real(block.down_bias)

    def _real(self, array: npt.NDArray[Any]) -> Any:
        return self.torch.from_numpy(array.astype(np.float32)).to(self.device, self.torch.bfloat16)

    def layer(self, inputs: Inputs) -> Callable[[], Any]:
        """A function of no arguments that enqueues the layer and returns y [T, H]."""
        torch, spec, tokens = self.torch, self.spec, inputs.tokens
        x, weights = self._real(inputs.x[:tokens]), self._real(inputs.weights[:tokens])
        ids = torch.from_numpy(inputs.ids[:tokens].astype(np.int64)).to(self.device)

        def run() -> Any:
            flat = ids.reshape(-1)
            order = torch.argsort(flat, stable=True)
            counts = torch.histc(flat.float(), bins=spec.experts, min=0, max=spec.experts - 1)
            offsets = torch.cumsum(counts, 0).to(torch.int32)
            both = torch._grouped_mm(x[order // spec.top_k], self.gate_up.transpose(-2, -1), offs=offsets)
            if self.gate_up_bias is not None:
                both = both + self.gate_up_bias[flat[order]]
            h = activate(torch, spec.activation, *both.chunk(2, dim=-1))
            d = torch._grouped_mm(h, self.down.transpose(-2, -1), offs=offsets)
            if self.down_bias is not None:
                d = d + self.down_bias[flat[order]]
            d = d * weights.reshape(-1)[order, None]
            inverse = torch.empty_like(order)
            inverse[order] = torch.arange(order.numel(), device=order.device)
            return d[inverse].view(tokens, spec.top_k, spec.hidden).sum(dim=1)

        return run

    def gemms(self, inputs: Inputs) -> Callable[[], Any]:
        """A function that enqueues the two grouped products alone, on rows that are already gathered."""
        torch, spec = self.torch, self.spec
        flat = torch.from_numpy(inputs.ids[: inputs.tokens].reshape(-1).astype(np.int64)).to(self.device)
        offsets = torch.cumsum(torch.bincount(flat, minlength=spec.experts), 0).to(torch.int32)
        rows = torch.randn(flat.numel(), spec.hidden, device=self.device).to(torch.bfloat16)
        h = torch.randn(flat.numel(), spec.intermediate, device=self.device).to(torch.bfloat16)

        def run() -> Any:
            torch._grouped_mm(rows, self.gate_up.transpose(-2, -1), offs=offsets)
            return torch._grouped_mm(h, self.down.transpose(-2, -1), offs=offsets)

        return run


def activate(torch: Any, activation: Activation, gate: Any, up: Any) -> Any:
    """What stands between the projections, in the tensors' type, contiguous."""
    if activation.kind != "swiglu":
        raise DeviceError(f"activation {activation.kind} is not written down here for torch.")
    if activation == Activation():
        return torch.nn.functional.silu(gate) * up
    limit = activation.limit
    if limit is not None:
        gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return gate * torch.sigmoid(activation.beta * gate) * (up + activation.up_offset)


def graphed(torch: Any, run: Callable[[], Any]) -> Callable[[], Any]:
    """The same work as one CUDA graph: without the cost of launching each kernel from Python."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


def cuda_timed(torch: Any, run: Callable[[], Any], flush_bytes: int, launches: bool) -> Callable[[], float]:
    """A variant for ``interleave``: milliseconds between two CUDA events, behind a flush as the kernels' own.

    With ``launches`` the GPU is idle when Python begins to launch, as it is where launches take longer than kernels;
    without, launches are hidden behind the flush as far as it lasts.
    """
    buffer = torch.empty(flush_bytes, dtype=torch.uint8, device="cuda")
    clean = torch.ones(flush_bytes // 4, dtype=torch.float32, device="cuda")
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def once() -> float:
        buffer.fill_(1)
        clean.max()
        if launches:
            torch.cuda.synchronize()
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end))

    return once


def find_torch() -> Any:
    """torch; DeviceError where it or CUDA or its grouped product is missing."""
    try:
        import torch
    except ImportError as error:
        raise DeviceError(f"torch cannot be imported ({error}): the comparison needs torch with CUDA.") from error
    if not torch.cuda.is_available() or not hasattr(torch, "_grouped_mm"):
        raise DeviceError(f"torch {torch.__version__} has no CUDA device or no _grouped_mm: nothing to compare with.")
    return torch
