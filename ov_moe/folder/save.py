"""Rewrites one IR and saves it, in a process of its own.

OpenVINO saves without a sign of progress, holds Python's lock meanwhile, cannot be stopped, and says nothing when
the disk is full. A process can be watched and killed, and what it wrote is read back.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ov_moe import children
from ov_moe.errors import InvalidInputError, OvMoeError
from ov_moe.folder.files import size_of
from ov_moe.openvino_errors import message_of
from ov_moe.options import Config
from ov_moe.spec import Balance


def rewrite_and_save(source: Path, target: Path, config: Config, written: Callable[[int], None], lock: int) -> None:
    """Write the rewritten form of an IR; ends its process on any exception, KeyboardInterrupt included.

    Args:
        source: The IR's .xml.
        target: The .xml to write; its .bin goes beside it.
        config: Of which ``balance``, ``max_tokens`` and ``few_tokens`` count.
        written: Hears how many bytes of weights stand there so far.
        lock: A descriptor that the process keeps open: what it writes is not left behind while it lives.

    Raises:
        OvMoeError: In the words of the process, or that it was killed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    weights = target.with_suffix(".bin")
    options = config.balance, str(config.max_tokens), str(config.few_tokens)
    child = children.call(
        "ov_moe.folder.save:rewrite",
        *(str(source), str(target), *options),
        environment={"OV_MOE_VIRTUAL_GPU": "0"},
        watch=lambda: written(size_of(weights.parent, Path(weights.name))),
        lock=lock,
    )
    if child.status < 0:
        raise OvMoeError(f"Rewriting {source} was ended by signal {-child.status}: was there too little memory?")
    if child.status or child.answer is None:
        raise OvMoeError(child.said or f"Rewriting {source} failed without a word.")
    if "error" in child.answer:
        raise OvMoeError(child.answer["error"])


def rewrite(source: str, target: str, balance: Balance, max_tokens: str, few_tokens: str) -> dict[str, str]:
    """The child's part; raises OvMoeError where something fails."""
    try:
        _rewrite(Path(source), Path(target), balance, int(max_tokens), int(few_tokens))
    except (OSError, RuntimeError, MemoryError) as error:
        raise OvMoeError(f"{source} could not be rewritten: {message_of(error)}.") from error
    return {}


def _rewrite(source: Path, target: Path, balance: Balance, max_tokens: int, few_tokens: int) -> None:
    import openvino as ov

    from ov_moe.folder.read import new_core, read
    from ov_moe.optimizer import optimize

    core = new_core()
    model = read(core, source)
    report = optimize(model, balance, max_tokens=max_tokens, few_tokens=few_tokens)
    try:
        ov.save_model(model, target, compress_to_fp16=False)
        operations, again = len(model.get_ops()), len(read(core, target).get_ops())
    except (InvalidInputError, RuntimeError, OSError) as error:
        raise OvMoeError(
            f"Writing {target.name} failed, perhaps because the disk is full: {message_of(error)}."
        ) from error
    if again != operations or not report.rewritten:
        raise OvMoeError(f"Writing {target.name} failed: what was read back is another model.")
