"""Texts of generated words, written in every form and packing that is read."""

import bz2
import gzip
import json
import lzma
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

WORDS = "river stone market letter garden winter engine signal border harvest mirror candle bridge thunder".split()


def docs(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choice(WORDS) for _ in range(60)).capitalize() + "." for _ in range(count)]


def jsonl(texts: list[object], **how) -> bytes:
    return "".join(json.dumps({"text": text, "id": 7}, **how) + "\n" for text in texts).encode()


def parquet(path: Path, column: object, **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.table({"id": list(range(len(column))), "text": column}), path, **how)
    return path


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACK = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd, ".GZ": gzip.compress}


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
