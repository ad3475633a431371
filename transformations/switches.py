"""The switches of a rewritten model, which stand once in its rt_info: saved, read and cloned with it."""

from __future__ import annotations

from typing import cast

import openvino as ov

from ov_moe.kernels.attributes import parsed
from ov_moe.spec import Balance

from .operations import moe_operations

_PLACE = "ov_moe"


def set_balance(model: ov.Model, balance: Balance) -> None:
    """Store the switch in the model, whatever stood there before."""
    model.set_rt_info({"balance": balance}, [_PLACE])


def balance_of(model: ov.Model) -> Balance:
    """The model's switch; where it has none, that of its first operation (as saved by earlier versions), or ``auto``.

    Raises InvalidInputError where the model, which may come from anybody's file, says anything else.
    """
    found = model.get_rt_info([_PLACE]).value if model.has_rt_info([_PLACE]) else {}
    word = found.get("balance") if isinstance(found, dict) else found
    if word is None:
        words = (node.get_attributes().get("balance") for node in moe_operations(model))
        word = next((each for each in words if each is not None), "auto")
    return cast(Balance, parsed({"balance": word})["balance"])
