"""Reads float32 .npy files of one or two dimensions and compares rows of logits, with the standard library alone."""

from __future__ import annotations

import ast
import math
import struct
from array import array
from pathlib import Path


def load(path: Path) -> list[array[float]]:
    """The rows of a little-endian float32 array in C order; of one dimension: that row."""
    data = path.read_bytes()
    if data[:6] != b"\x93NUMPY":
        raise ValueError(f"{path} is no .npy file")
    wide = data[6] >= 2
    size = struct.unpack_from("<I" if wide else "<H", data, 8)[0]
    start = (12 if wide else 10) + size
    header = ast.literal_eval(data[start - size : start].decode("latin1"))
    shape = header["shape"] if len(header["shape"]) != 1 else (1, *header["shape"])
    if header["descr"] != "<f4" or header["fortran_order"] or len(shape) != 2:
        raise ValueError(f"{path}: expected '<f4' in one or two dimensions and C order, found {header}")
    if len(data) - start != 4 * shape[0] * shape[1]:
        raise ValueError(f"{path}: {len(data) - start} bytes of data do not fit the shape {shape}")
    values = array("f")
    values.frombytes(data[start:])
    return [values[i * shape[1] : (i + 1) * shape[1]] for i in range(shape[0])]


def kl(reference: array[float], found: array[float]) -> float:
    """KL(softmax(reference) || softmax(found)) in nats; infinity where `found` has a number that is not finite."""
    if len(reference) != len(found) or not all(map(math.isfinite, found)):
        return math.inf
    top_r, top_f = max(reference), max(found)
    shifted_r, shifted_f = [x - top_r for x in reference], [x - top_f for x in found]
    weights = [math.exp(x) for x in shifted_r]
    total = math.fsum(weights)
    offset = math.log(math.fsum(map(math.exp, shifted_f))) - math.log(total)
    return math.fsum(w * (r - f + offset) for w, r, f in zip(weights, shifted_r, shifted_f)) / total


def kls(reference: list[array[float]], found: list[array[float]]) -> list[float]:
    """One KL a position; a wrong number of rows gives infinity everywhere."""
    if len(reference) != len(found):
        return [math.inf] * len(reference)
    return [kl(r, f) for r, f in zip(reference, found)]
