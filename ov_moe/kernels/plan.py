"""The layout of the plan, the i32 buffer that Route writes and the other stages read; mirror of cl/common.cl."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ov_moe.errors import InvalidInputError

TOKENS = 0
LIVE_ROWS = 1
TILES = 2
H_WIDE = 3
D_WIDE = 4
TICKET_GATE_UP = 16
TICKET_DOWN = 32
HEADER = 48

ID_PADDING = -1
ID_ABSENT = -2
ROW_NONE = -1
ROW_INVALID = -3


@dataclass(frozen=True)
class PlanLayout:
    """Where each part of a plan for ``max_tokens`` tokens, ``top_k`` slots and ``experts`` experts stands.

    Offsets count i32 elements.
    """

    experts: int
    top_k: int
    max_tokens: int

    def __post_init__(self) -> None:
        for name in ("experts", "top_k", "max_tokens"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} of a plan is {getattr(self, name)}, it must be at least 1.")

    @property
    def max_rows(self) -> int:
        """Rows R = max_tokens * top_k."""
        return self.max_tokens * self.top_k

    @property
    def row_offset(self) -> int:
        """First row of each expert, E + 1 entries."""
        return HEADER

    @property
    def tile_offset(self) -> int:
        """First row tile of each expert, E + 1 entries."""
        return self.row_offset + self.experts + 1

    @property
    def pair_of_row(self) -> int:
        """Row -> pair (token * top_k + slot), R entries, the first LIVE_ROWS of them written."""
        return self.tile_offset + self.experts + 1

    @property
    def row_of_pair(self) -> int:
        """Pair -> row, ROW_NONE or ROW_INVALID; R entries, the first TOKENS * top_k of them written."""
        return self.pair_of_row + self.max_rows

    @property
    def size(self) -> int:
        """Elements of the whole plan."""
        return self.row_of_pair + self.max_rows

    def view(self, plan: npt.NDArray[np.int32]) -> PlanView:
        """Name the parts of a flat plan array [size]; only what Route writes is included."""
        tokens, rows = int(plan[TOKENS]), int(plan[LIVE_ROWS])
        return PlanView(
            tokens=tokens,
            live_rows=rows,
            tiles=int(plan[TILES]),
            row_offset=plan[self.row_offset : self.row_offset + self.experts + 1],
            tile_offset=plan[self.tile_offset : self.tile_offset + self.experts + 1],
            pair_of_row=plan[self.pair_of_row : self.pair_of_row + rows],
            row_of_pair=plan[self.row_of_pair : self.row_of_pair + tokens * self.top_k],
        )


@dataclass(frozen=True)
class PlanView:
    """The parts of a plan by name; the arrays are i32 views, see PlanLayout for their meaning."""

    tokens: int
    live_rows: int
    tiles: int
    row_offset: npt.NDArray[np.int32]
    tile_offset: npt.NDArray[np.int32]
    pair_of_row: npt.NDArray[np.int32]
    row_of_pair: npt.NDArray[np.int32]
