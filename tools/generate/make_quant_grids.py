#!/usr/bin/env python3
"""Writes src/base/quant_grids.cc: the lattice points of the IQ types, from the Python package `gguf`.

    tools/generate/make_quant_grids.py > src/base/quant_grids.cc

Each point is one 16-bit number: the index of its j-th coordinate in the type's list of values takes bits j*w to j*w+w-1,
with w = 2 for the grids of eight coordinates and w = 3 for those of four.
"""

from importlib.metadata import version

import numpy as np
from gguf import quants

GRIDS = [
    ("kGridIq2Xxs", quants.IQ2_XXS, 2),
    ("kGridIq2Xs", quants.IQ2_XS, 2),
    ("kGridIq2S", quants.IQ2_S, 2),
    ("kGridIq3Xxs", quants.IQ3_XXS, 3),
    ("kGridIq3S", quants.IQ3_S, 3),
    ("kGridIq1S", quants.IQ1_S, 2),
]


def points(cls, bits):
    cls.init_grid()
    grid = cls.grid.reshape(cls.grid_shape)
    values = list(cls.grid_map)
    for row in grid:
        yield sum(values.index(int(v)) << (bits * j) for j, v in enumerate(row))


def main():
    print(f"// Lattice points of the IQ types, by tools/generate/make_quant_grids.py from gguf {version('gguf')}.")
    print('#include "base/quant_blocks.h"\n\nnamespace hadal {\n')
    print("// clang-format off")
    for name, cls, bits in GRIDS:
        numbers = [f"0x{p:04x}," for p in points(cls, bits)]
        assert len(set(numbers)) == len(numbers) == cls.grid_shape[0]
        print(f"const std::array<uint16_t, {len(numbers)}> {name} = {{{{")
        for i in range(0, len(numbers), 14):
            print("  " + "".join(numbers[i : i + 14]))
        print("}};\n")
    print("// clang-format on\n\n}  // namespace hadal")


if __name__ == "__main__":
    np.seterr(all="raise")
    main()
