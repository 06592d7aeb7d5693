#!/usr/bin/env python3
"""Writes tests/data/quant_golden.bin: random blocks of every type and what the Python package `gguf` decodes them to.

    tools/generate/make_quant_golden.py > tests/data/quant_golden.bin

Little-endian: "HQG1", u32 seed, u32 length and text of the version, then until the end one record a type: u32 ggml type,
u32 bytes of blocks, u32 number of values, the blocks, the values as fp32. The half-precision scales in the blocks are set to
finite numbers (among them zero, subnormals and the largest); all other bits are random.
"""

import struct
import sys
from importlib.metadata import version

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES

SEED = 20261124
SPECIAL = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00]

# Where the f16 numbers of a block lie.
HALVES = {
    T.Q4_0: [0],
    T.Q4_1: [0, 2],
    T.Q5_0: [0],
    T.Q5_1: [0, 2],
    T.Q8_0: [0],
    T.Q2_K: [80, 82],
    T.Q3_K: [108],
    T.Q4_K: [0, 2],
    T.Q5_K: [0, 2],
    T.Q6_K: [208],
    T.TQ1_0: [52],
    T.TQ2_0: [64],
    T.IQ2_XXS: [0],
    T.IQ2_XS: [0],
    T.IQ2_S: [0],
    T.IQ3_XXS: [0],
    T.IQ3_S: [0],
    T.IQ1_S: [0],
    T.IQ4_NL: [0],
    T.IQ4_XS: [0],
    T.IQ1_M: [],
    T.BF16: [],
    T.F16: [],
    T.MXFP4: [],
    T.NVFP4: [],
}


def blocks_of(kind, rng, count):
    values, size = GGML_QUANT_SIZES[kind]
    if values == 1:
        numbers = rng.standard_normal(64).astype(np.float32)
        return (numbers.astype(np.float16) if kind == T.F16 else quants.quantize(numbers, T.BF16)).view(np.uint8).reshape(-1)
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for n in range(count):
        for at in HALVES[kind]:
            half = SPECIAL[n] if n < len(SPECIAL) else int(rng.integers(0, 0x7C00)) | int(rng.integers(0, 2)) << 15
            blocks[n, at : at + 2] = [half & 255, half >> 8]
        if kind == T.IQ1_M:  # the top nibble of its f16 scale: an exponent that is neither infinity nor NaN
            blocks[n, 55] = (blocks[n, 55] & 0x0F) | (int(rng.integers(0, 16)) & 0xB) << 4
        if kind in (T.MXFP4, T.NVFP4) and n == 0:
            blocks[n, 0] = 0xFF if kind == T.NVFP4 else 0
    if kind == T.NVFP4:
        blocks[1, :4] = [0x00, 0x7F, 0x01, 0x80]
    if kind == T.MXFP4:
        blocks[1, 0], blocks[2, 0], blocks[3, 0] = 1, 2, 254
    return blocks.reshape(-1)


def main():
    rng = np.random.default_rng(SEED)
    name = f"gguf {version('gguf')}".encode()
    out = [b"HQG1", struct.pack("<II", SEED, len(name)), name]
    for kind in HALVES:
        values = GGML_QUANT_SIZES[kind][0]
        blocks = blocks_of(kind, rng, 9 if values < 256 else 3)
        with np.errstate(over="ignore", invalid="ignore"):
            decoded = quants.dequantize(blocks, kind).astype(np.float32).reshape(-1)
        out += [struct.pack("<III", int(kind), blocks.size, decoded.size), blocks.tobytes(), decoded.tobytes()]
    sys.stdout.buffer.write(b"".join(out))


if __name__ == "__main__":
    main()
