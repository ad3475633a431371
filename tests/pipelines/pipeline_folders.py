"""Folders of tiny models for optimum-intel and openvino-genai, each in both forms: as exported and optimised."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

import ov_moe
import ov_moe.genai

DEMO = Path(ov_moe.__file__).parent / "demo" / "model"
EXPORT = Path(__file__).parents[2] / "scripts" / "export_tiny_models.py"
# A Qwen3-MoE with 64 experts in u4 that is part of the package, and a GPT-OSS in fp16 that is exported here.
NAMES = ("qwen3_moe", "gpt_oss")
DEVICES = ("CPU", "GPU")
# Shorter than the prompts below: prefill runs in chunks, decode does not.
MAX_TOKENS = 16
# Without these the plugins round differently by themselves, and their key-value cache has 8 bits.
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
_CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@dataclass(frozen=True)
class Folders:
    """A model as exported and optimised, with whatever tokenizer could be had."""

    unfused: Path
    fused: Path
    vocabulary: int
    text: bool

    def prompt(self, seed: int, batch: int = 1, length: int = 21) -> np.ndarray:
        """Token ids i64 [batch, length] that follow from the seed; 0 to 2 are special."""
        return np.random.default_rng(seed).integers(3, self.vocabulary, (batch, length))


def make(name: str, parent: Path) -> Folders:
    """Both forms of a model below ``parent``; skips where it cannot be exported."""
    source = DEMO if name == "qwen3_moe" else gpt_oss()
    unfused, fused = parent / "unfused", parent / "fused"
    unfused.mkdir(parents=True)
    for file in source.iterdir():
        shutil.copyfile(file, unfused / file.name)
    vocabulary = int(json.loads((unfused / "config.json").read_text(encoding="utf-8"))["vocab_size"])
    text = _add_tokenizer(unfused, vocabulary)
    report = ov_moe.genai.optimize(unfused, fused, max_tokens=MAX_TOKENS)
    assert len(report.rewritten) == 2, str(report)
    return Folders(unfused, fused, vocabulary, text)


@functools.cache
def gpt_oss() -> Path:
    """A GPT-OSS with random weights, as optimum-intel exports it; the same in every process."""
    if importlib.util.find_spec("optimum") is None:
        pytest.skip("optimum-intel, which exports the GPT-OSS model, is not installed: make pipelines")
    parent = Path(tempfile.mkdtemp(prefix="ov-moe-gpt-oss-"))
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    sizes = ("--experts", "4", "--top-k", "2", "--precision", "fp16")
    command = [sys.executable, str(EXPORT), str(parent / "model"), "--architecture", "gpt_oss", *sizes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return parent / "model"


def run_python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Code on the virtual GPU, in a process of its own."""
    start = "from ov_moe import virtual_gpu\nvirtual_gpu.start()\n"
    return subprocess.run(
        [sys.executable, "-c", start + code], cwd=cwd, capture_output=True, text=True, timeout=900, check=False
    )


def _add_tokenizer(folder: Path, vocabulary: int) -> bool:
    """Add an OpenVINO tokenizer, from the folder's own or from one of single bytes; False without the packages."""
    if not all(map(importlib.util.find_spec, ("transformers", "openvino_tokenizers"))):
        return False
    from openvino_tokenizers import convert_tokenizer
    from transformers import AutoTokenizer

    if not (folder / "tokenizer.json").exists():
        _save_bytes_tokenizer(folder, vocabulary)
    tokenizer, detokenizer = convert_tokenizer(AutoTokenizer.from_pretrained(folder), with_detokenizer=True)
    ov.save_model(tokenizer, folder / "openvino_tokenizer.xml")
    ov.save_model(detokenizer, folder / "openvino_detokenizer.xml")
    return True


def _save_bytes_tokenizer(folder: Path, vocabulary: int) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())[: vocabulary - len(special)]
    plain = Tokenizer(models.BPE({word: index for index, word in enumerate(special + letters)}, []))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", bos_token="<s>", eos_token="</s>", chat_template=_CHAT
    )
    tokenizer.save_pretrained(folder)
