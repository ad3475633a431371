"""Rewrites one IR and saves it, in a process of its own.

OpenVINO saves without a sign of progress, holds Python's lock meanwhile, cannot be stopped, and says nothing when
the disk is full. A process can be watched and killed, and what it wrote is read back.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ov_moe.children import end_with
from ov_moe.errors import InvalidInputError, OvMoeError
from ov_moe.folder.files import size_of
from ov_moe.openvino_errors import message_of
from ov_moe.options import Config
from ov_moe.spec import Balance

_POLL_S = 0.1
# The parent's module path, so that the child imports the same packages whatever the current folder holds.
_CHILD = (
    "import sys; path, between, *arguments = sys.argv[1:]; sys.path[:] = path.split(between); "
    "from ov_moe.folder.save import main; main(*arguments)"
)


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
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    options = [config.balance, str(config.max_tokens), str(config.few_tokens)]
    arguments = [path, os.pathsep, str(os.getpid()), str(source), str(target), *options]
    environment = {**os.environ, "OV_MOE_VIRTUAL_GPU": "0"}
    # A session of its own: Ctrl-C reaches the parent alone, which ends the child.
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        pass_fds=(lock,) if os.name == "posix" else (),
    ) as child:
        try:
            said = _watch(child, target.with_suffix(".bin"), written)
        except BaseException:
            child.kill()
            child.wait()  # or it would go on writing: on KeyboardInterrupt, Popen waits for 0.25 s only
            raise
    if child.returncode < 0:
        raise OvMoeError(f"Rewriting {source} was ended by signal {-child.returncode}: was there too little memory?")
    if child.returncode:
        raise OvMoeError((said.strip().splitlines() or [f"Rewriting {source} failed without a word."])[-1])


def _watch(child: subprocess.Popen[str], weights: Path, written: Callable[[int], None]) -> str:
    """What the child said on stderr, once it has ended."""
    while True:
        try:
            return child.communicate(timeout=_POLL_S)[1]
        except subprocess.TimeoutExpired:
            written(size_of(weights.parent, Path(weights.name)))


def main(parent: str, source: str, target: str, balance: Balance, max_tokens: str, few_tokens: str) -> None:
    """The child: exit status 1 and one sentence on stderr where something fails."""
    end_with(int(parent))
    try:
        _rewrite(Path(source), Path(target), balance, int(max_tokens), int(few_tokens))
    except OvMoeError as error:
        sys.exit(str(error))
    except (OSError, RuntimeError, MemoryError) as error:
        sys.exit(f"{source} could not be rewritten: {message_of(error)}.")


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
