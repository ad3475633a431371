"""What hostile or broken files may hold in the place of a text, a name, a type, a size, a number or an id."""

from __future__ import annotations

import numpy as np

INT_MIN, INT_MAX = -(2**31), 2**31 - 1
# What may stand in an attribute: no number, no finite one, none of 32 or 64 bits, code, markup, text without end.
TEXTS = (
    "",
    "0",
    "1",
    "-1",
    "3",
    "2.5",
    "nan",
    "inf",
    "-INFINITY",
    "1e999",
    "1e-45f",
    str(INT_MIN),
    str(INT_MAX),
    str(2**32 + 3),
    str(2**63 - 1),
    str(2**64),
    "9" * 400,
    "(*(volatile global int *)0xdeadUL = 1, 1.0f)",
    "1.0f\n#error injected\n",
    "1.0f\\",
    "none",
    "some",
    "e8m0",
    "u4",
    "i8",
    "f4e2m1",
    "float",
    "swiglu",
    "reglu",
    "geglu_tanh",
    "halves",
    "interleaved",
    "separate",
    "on",
    "true",
    "f16",
    "i64",
    "0,0",
    "1,2,3,4,5",
    "-1,-1",
    f"{INT_MAX},{INT_MAX},2",
    "*/ } /*",
    "'\"<&>%s%n{}",
    "\u202e\ufffd",
    "x" * 100_000,
)
NAMES = (
    "",
    "a\nb",
    "a\r\n#error injected",
    "*/ kernel void x() { } /*",
    '"; } #define float int',
    "\\",
    "..",
    "/etc/passwd",
    "%s%n",
    "[red]x[/red]",
    "Parameter_1",
    "x",
    "\u00fc\u4e2d\u202e",
    "n" * 70_000,
)
TYPES = ("f32", "f16", "bf16", "f64", "u8", "i8", "u4", "i4", "u1", "i32", "i64", "f8e8m0", "f4e2m1", "nf4", "string")
SIZES = (0, 1, 3, 7, 16, 2**16, INT_MAX, 2**31, 2**32 + 1, 2**48, 2**62, 2**63 - 1, -1, -2)
REALS = (np.nan, np.inf, -np.inf, 65504.0, 1e30, 1e-40)
IDS = (INT_MIN, INT_MAX, -1, -2, -3, 4, 5, 2**30, 2**32, 2**32 + 3, -(2**63), 2**63 - 1)
