"""The demonstration: a tiny mixture-of-experts language model, rewritten, compiled, compared and timed.

Importing this package, or its module ``place``, does not import openvino.
"""

from __future__ import annotations

from pathlib import Path

# The folder of the model that the package brings along; its README says how it was made.
MODEL = Path(__file__).parent / "model"

# Token ids of the prompt, chosen so that no next token of MODEL is a close call.
# fmt: off
PROMPT = (115, 144, 88, 116, 68, 145, 84, 124, 71, 106, 242, 117, 195, 57, 220, 32, 79, 50, 191, 232)
# fmt: on
