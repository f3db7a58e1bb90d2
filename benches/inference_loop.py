#!/usr/bin/env python3
"""What benches/inference.rs compares with: the same ONNX file in a plain loop, tokenising included.

Reads lines `BATCH TOKENS SECONDS`, computes batches of texts of that many tokens one after the other for about
that long, and answers each line with the texts a second.

usage: inference_loop.py MODEL_DIR THREADS     (needs: onnxruntime, tokenizers, numpy)
"""
import pathlib
import sys
import time

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

# Words of one token each, as in benches/inference.rs.
WORDS = "order house water city music light paper river phone table green north story shoe money".split()


def text(number, tokens):
    """A text of so many tokens, its two special ones included."""
    return " ".join(WORDS[(number * 7 + at * (1 + number % 3)) % len(WORDS)] for at in range(tokens - 2))


def main():
    folder, threads = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(folder / "onnx/model.onnx"), options, providers=["CPUExecutionProvider"]
    )

    def embed(texts):
        rows = tokenizer.encode_batch(texts)
        arrays = {
            "input_ids": [row.ids for row in rows],
            "attention_mask": [row.attention_mask for row in rows],
            "token_type_ids": [row.type_ids for row in rows],
        }
        arrays = {name: np.array(value, dtype=np.int64) for name, value in arrays.items()}
        hidden = session.run(None, arrays)[0]
        mask = arrays["attention_mask"][..., None].astype(np.float32)
        vectors = (hidden * mask).sum(1) / mask.sum(1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    for line in sys.stdin:
        batch, tokens, seconds = line.split()
        batch, tokens, seconds = int(batch), int(tokens), float(seconds)
        embed([text(0, tokens)] * batch)
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            embed([text(done + at, tokens) for at in range(batch)])
            done += batch
        print(done / (time.perf_counter() - began), flush=True)


main()
