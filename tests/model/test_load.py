"""Four streams under load: every request gives the bits of a single run, and memory stays flat.

`make load` runs 1,000 requests in each stream, and prints its figures; without --load there are 25.

All are streams of one compiled model. Each request has output tensors of its own: without them 7 of 59,691 requests of
a multiplication and a matrix product gave another request's result (plugin 2026.4.1), with them none of 82,705
(test_requests.py, docs/configuration.md).

Before that every length runs until the plugin builds nothing more, as it does for single shapes in the background.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import openvino as ov
from blocks_on_plugin import F32, SMALL, request_of_its_own, until_nothing_is_built

import ov_moe
from ov_moe import virtual_gpu
from ov_moe.testing.graphs import moe_block_model

STREAMS = 4
# Decode, one chunk, up to three: the path for few tokens ends at 4, a chunk at 16.
LENGTHS = (1, 40)
# In each stream; memory counts from there on.
SETTLED = 100
# Of what is resident then: the allocator keeps pages, and each thread an arena of its own.
GROWTH = 0.02


def compiled(core: ov.Core, **config: str) -> ov.CompiledModel:
    model, _ = moe_block_model(rng=np.random.default_rng(5), blocks=2, topk_as_inputs=True, **SMALL)
    ov_moe.optimize(model, "on", max_tokens=16, few_tokens=4)
    return ov_moe.compile_model(core, model, "GPU", {**F32, **config})


def random_inputs(seed: int, stream: int, number: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng([seed, stream, number])
    return of_length(int(rng.integers(LENGTHS[0], LENGTHS[1] + 1)), rng)


def of_length(tokens: int, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    return {
        "x": rng.standard_normal((tokens, SMALL["hidden"])).astype(np.float32),
        "ids": rng.integers(0, SMALL["experts"], (tokens, SMALL["top_k"])).astype(np.int32),
        "weights": rng.random((tokens, SMALL["top_k"])).astype(np.float32),
    }


def digest(result: np.ndarray[Any, Any]) -> bytes:
    assert np.isfinite(result).all()
    return hashlib.blake2b(result.tobytes(), digest_size=8).digest()


def settled(model: ov.CompiledModel, streams: int) -> list[ov.InferRequest]:
    """As many requests as there are streams, run until nothing is built and no buffer grows."""
    requests = [request_of_its_own(model) for _ in range(streams)]

    def together(lengths: Iterable[int]) -> None:
        def work(stream: int) -> None:
            for tokens in lengths:
                requests[stream].infer(of_length(tokens, np.random.default_rng([stream, tokens])))

        with ThreadPoolExecutor(streams) as pool:
            for each in [pool.submit(work, stream) for stream in range(streams)]:
                each.result()

    until_nothing_is_built(lambda: together(range(LENGTHS[0], LENGTHS[1] + 1)))
    # The plugin chooses a stream for each request, and a stream's buffers are as long as the longest that it has run.
    together([LENGTHS[1]] * 50)
    return requests


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return 4096 * int(statm.read().split()[1])


def alive() -> int:
    """Bytes that the plugin holds on the device."""
    return sum(each.live_bytes for each in virtual_gpu.snapshot().allocations.values())


def test_four_streams(load: bool, rng: np.random.Generator) -> None:
    requests = 1000 if load else 25
    seed = int(rng.integers(2**32))
    core = ov.Core()
    alone = compiled(core, PERFORMANCE_HINT="LATENCY")
    (single,) = settled(alone, 1)
    expected = [
        [digest(single.infer(random_inputs(seed, stream, number))[0]) for number in range(requests)]
        for stream in range(STREAMS)
    ]
    together = compiled(core, PERFORMANCE_HINT="THROUGHPUT", NUM_STREAMS=str(STREAMS))
    assert together.get_property("NUM_STREAMS") == STREAMS
    streams = settled(together, STREAMS)
    sizes: list[tuple[int, int]] = []
    # Each thread waits for the others at every hundredth request, where nothing runs and memory is read.
    meeting = threading.Barrier(STREAMS, lambda: sizes.append((resident(), alive())))
    virtual_gpu.reset()

    def work(stream: int) -> list[int]:
        """The requests that gave other bits."""
        request = streams[stream]
        wrong: list[int] = []
        try:
            for number in range(requests):
                if number % SETTLED == 0:
                    meeting.wait()
                if digest(request.infer(random_inputs(seed, stream, number))[0]) != expected[stream][number]:
                    wrong.append(number)
            meeting.wait()
        except BaseException:
            meeting.abort()  # nobody waits for this one any more
            raise
        return wrong

    with ThreadPoolExecutor(STREAMS) as pool:
        running = [pool.submit(work, stream) for stream in range(STREAMS)]
        assert [each.result() for each in running] == [[]] * STREAMS
    if len(sizes) > 2:
        (before, held), *_, (after, held_after) = sizes[1:]
        print(
            f"{STREAMS} streams x {requests} requests of {LENGTHS[0]} to {LENGTHS[1]} tokens, 0 with other bits; "
            f"resident MiB at every {SETTLED}: {' '.join(f'{size / 2**20:.1f}' for size, _ in sizes)}; on the device "
            f"{held_after / 2**20:.2f}"
        )
        assert after - before <= GROWTH * before
        assert held_after - held <= GROWTH * held
