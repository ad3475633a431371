"""The architectures that ``export_tiny_models.py`` knows: what makes a transformers configuration of given sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export_tiny_models import TinyModel


def _common(tiny: TinyModel) -> dict[str, Any]:
    """What the configurations of all architectures call by the same names."""
    return {
        "hidden_size": tiny.hidden,
        "num_hidden_layers": tiny.layers,
        "num_attention_heads": tiny.heads,
        "num_key_value_heads": tiny.kv_heads,
        "head_dim": tiny.head_dim,
        "num_experts_per_tok": tiny.top_k,
        "vocab_size": tiny.vocab,
        "max_position_embeddings": 4096,
        "initializer_range": tiny.initializer_range,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def _local(tiny: TinyModel) -> dict[str, Any]:
    """Sizes of the experts where all layers hold experts alone."""
    return {"num_local_experts": tiny.experts, "intermediate_size": tiny.intermediate}


def _mixed(tiny: TinyModel) -> dict[str, Any]:
    """Sizes of the experts where the configuration has dense layers too."""
    return {
        "num_experts": tiny.experts,
        "moe_intermediate_size": tiny.intermediate,
        "intermediate_size": 2 * tiny.hidden,
    }


# A new architecture is one entry here: transformers' model type, how it names its experts, what else it needs.
_ARCHITECTURES: dict[str, tuple[Any, dict[str, Any]]] = {
    "qwen3_moe": (_mixed, {"norm_topk_prob": True}),
    "mixtral": (_local, {"sliding_window": None}),
    "gpt_oss": (_local, {"sliding_window": 32}),
    "qwen2_moe": (_mixed, {"shared_expert_intermediate_size": 96, "norm_topk_prob": False}),
    "phimoe": (_local, {"sliding_window": None, "original_max_position_embeddings": 4096}),
    "afmoe": (_mixed, {"num_dense_layers": 1, "num_shared_experts": 1, "global_attn_every_n_layers": 2}),
    "lfm2_moe": (_mixed, {"num_dense_layers": 1, "layer_types": ["conv", "full_attention"]}),
    "granitemoe": (_local, {"attention_multiplier": 1.0}),
}
ARCHITECTURES = tuple(_ARCHITECTURES)


def configuration(architecture: str, tiny: TinyModel) -> Any:
    """The transformers configuration of one architecture; lfm2_moe is fixed to two layers.

    optimum-intel 2.2 exports lfm2_moe with transformers up to 5.4 only, and says so.
    """
    from transformers import AutoConfig

    experts, more = _ARCHITECTURES[architecture]
    return AutoConfig.for_model(architecture, **{**_common(tiny), **experts(tiny), **more})
