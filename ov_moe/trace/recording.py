"""A recording of tokens per expert, and its two files: a CSV for benchmarks, a JSON with everything."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ov_moe.commands.output_files import write_together
from ov_moe.errors import InvalidInputError
from ov_moe.kernel_bench.recorded import read_table

Counts = npt.NDArray[np.int64]

# Raised when a field of the JSON changes its meaning or goes.
SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class Layer:
    """One block of the model.

    Attributes:
        name: Friendly name of the block.
        top_k: Experts that serve one token; 0 where it is not known.
        hidden: Features of a token; 0 where it is not known.
        intermediate: Features inside an expert; 0 where it is not known.
    """

    name: str
    top_k: int = 0
    hidden: int = 0
    intermediate: int = 0


@dataclass(frozen=True, eq=False)
class Recording:
    """Rows (a token for one of its experts) of each expert, in every layer.

    Attributes:
        layers: The blocks, in the model's order.
        prefills: One array [L, E] for each prompt, at its prefill.
        decode: [L, E], all generated tokens of all prompts together.
        tokens: Tokens of each prefill, of the whole batch.
        facts: Model, device and versions.
    """

    layers: tuple[Layer, ...]
    prefills: tuple[Counts, ...]
    decode: Counts
    tokens: tuple[int, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> Counts:
        """[L, E], all prefills together."""
        total: Counts = np.sum(self.prefills, axis=0)
        return total

    @property
    def experts(self) -> int:
        """E."""
        return int(self.decode.shape[1])

    def to_csv(self) -> str:
        """The prefills together: ``layer,expert_0,...``, one row a layer, as ``ov-moe kernels bench`` reads it."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["layer", *(f"expert_{expert}" for expert in range(self.experts))])
        writer.writerows([layer, *counts] for layer, counts in enumerate(self.total.tolist()))
        return out.getvalue()

    def to_json(self) -> str:
        """Everything, the prefills one by one."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "facts": self.facts,
            "layers": [vars(layer) for layer in self.layers],
            "tokens": self.tokens,
            "prefills": [prefill.tolist() for prefill in self.prefills],
            "decode": self.decode.tolist(),
        }
        return json.dumps(content) + "\n"

    def save(self, path: Path) -> Path:
        """Write the CSV and, beside it, the JSON, whose path is returned; raises OutputError where it cannot."""
        write_together(self.contents(path))
        return metadata_path(path)

    def contents(self, path: Path) -> dict[Path, bytes | str]:
        """What ``save`` writes, by path."""
        return {metadata_path(path): self.to_json(), path: self.to_csv()}


def check_layer(layer: int | None, layers: int) -> None:
    """Raise InvalidInputError where ``layer`` is none of so many; None always is."""
    if layer is not None and not 0 <= layer < layers:
        raise InvalidInputError(f"layer is {layer}, it must be a whole number from 0 to {layers - 1}.")


def metadata_path(path: Path) -> Path:
    """The JSON that belongs to a CSV."""
    return path.with_suffix(".json")


def load(path: Path) -> Recording:
    """A recording from its CSV, with all prefills where its JSON stands beside it.

    Raises:
        InvalidInputError: A file is not what ``save`` writes, or the JSON belongs to another CSV.
    """
    table = read_table(str(path))
    total = np.array(list(table.values()), np.int64)
    beside = metadata_path(path)
    if beside == path or not beside.is_file():
        layers = tuple(Layer(name) for name in table)
        return Recording(layers, (total,), np.zeros_like(total), ())
    try:
        content = json.loads(beside.read_text(encoding="utf-8"))
        if content["schema_version"] != SCHEMA_VERSION:
            raise InvalidInputError(
                f"{beside} has schema {content['schema_version']}, this ov-moe reads {SCHEMA_VERSION}."
            )
        recording = Recording(
            layers=tuple(Layer(**layer) for layer in content["layers"]),
            prefills=tuple(np.array(prefill, np.int64) for prefill in content["prefills"]),
            decode=np.array(content["decode"], np.int64),
            tokens=tuple(content["tokens"]),
            facts=content["facts"],
        )
        matches = np.array_equal(recording.total, total)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"{beside} is not what ov-moe trace writes: remove it to use the CSV alone.") from None
    if not matches:
        raise InvalidInputError(
            f"{beside} does not belong to {path}: their rows differ; remove it to use the CSV alone."
        )
    return recording
