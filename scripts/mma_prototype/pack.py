"""The packed layout of u4 weights for the mma micro-kernel, and its exact inverse."""

import numpy as np

# Where nibble k of 32 stands: word (k % 8) // 2, bit 16 * (k % 2) + 4 * (k // 8).
_K = np.arange(32)
_WORD, _BIT = _K % 8 // 2, 16 * (_K % 2) + 4 * (_K // 8)
_NIBBLE = _WORD * 8 + _BIT // 4  # place among the 32 nibbles of the unit, low first


def pack_weights(stored: np.ndarray, experts: int, n: int, k: int) -> np.ndarray:
    """u4 bytes [E, N, K/2], low nibble first -> the same number of bytes in units of 16: [E, K/32, N, 16]."""
    b = stored.reshape(experts, n, k // 32, 16)
    nibbles = np.stack([b & 15, b >> 4], -1).reshape(experts, n, k // 32, 32)
    out = np.empty_like(nibbles)
    out[..., _NIBBLE] = nibbles
    return np.ascontiguousarray((out[..., 0::2] | out[..., 1::2] << 4).transpose(0, 2, 1, 3))


def unpack_weights(packed: np.ndarray, experts: int, n: int, k: int) -> np.ndarray:
    """The inverse of pack_weights: [E, N, K/2]."""
    b = packed.reshape(experts, k // 32, n, 16).transpose(0, 2, 1, 3)
    nibbles = np.stack([b & 15, b >> 4], -1).reshape(experts, n, k // 32, 32)[..., _NIBBLE]
    return np.ascontiguousarray(nibbles[..., 0::2] | nibbles[..., 1::2] << 4).reshape(experts, n, k // 2)


def pack_scales(
    scale: np.ndarray, zero: np.ndarray | None, experts: int, n: int, groups: int, implied: int = 0
) -> np.ndarray:
    """f16 scales [E, N, G] and packed u4 zero points (None: all ``implied``) -> u32 [E, G, N]: scale | (1024 + zero) << 16."""
    count = experts * n * groups
    if zero is None:
        z = np.full(count, implied, np.uint32)
    else:
        flat = zero.reshape(-1)
        z = np.stack([flat & 15, flat >> 4], 1).reshape(-1)[:count].astype(np.uint32)
    word = scale.reshape(-1).view(np.uint16).astype(np.uint32) | (0x6400 + z) << 16
    return np.ascontiguousarray(word.reshape(experts, n, groups).transpose(0, 2, 1))


def unpack_scales(words: np.ndarray, experts: int, n: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of pack_scales: f16 scales [E, N, G] and packed u4 zero points."""
    w = np.ascontiguousarray(words.reshape(experts, groups, n).transpose(0, 2, 1)).reshape(-1)
    z = ((w >> 16) - 0x6400).astype(np.uint8)
    z = np.append(z, np.zeros(z.size % 2, np.uint8))
    return (w & 0xFFFF).astype(np.uint16).view(np.float16).reshape(experts, n, groups), z[0::2] | z[1::2] << 4


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    w = rng.integers(0, 256, (3, 24, 48), np.uint8)
    assert (unpack_weights(pack_weights(w, 3, 24, 96), 3, 24, 96) == w).all()
    s, z = rng.random((3, 24, 3)).astype(np.float16), rng.integers(0, 256, 108, np.uint8)
    s2, z2 = unpack_scales(pack_scales(s, z, 3, 24, 3), 3, 24, 3)
    assert (s2 == s).all() and (z2 == z).all()
    print("exact inverses")
