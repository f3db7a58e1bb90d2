#!/usr/bin/env python3
"""How fast onnxruntime-genai and transformers (PyTorch, eager) write, on the folder of make_qwen_shaped.py.

Prompts of 128 tokens drawn by chance, as many at once as there are streams, in one batch; greedy. For each peer
and number of streams a line of JSON: milliseconds from the call to the first tokens, and tokens a second of all
streams together from there on, each the median of the repeats behind one that is not counted.

  python3 peers.py DIR
  python3 peers.py DIR --peer genai --streams 1 --threads 2
"""

import argparse
import json
import pathlib
import random
import statistics
import time

# Ids of whole words, no special tokens.
IDS = 256, 1270


def prompts(streams, length):
    source = random.Random(1)
    return [[source.randrange(*IDS) for _ in range(length)] for _ in range(streams)]


class Genai:
    """onnxruntime-genai, on its own layout."""

    def __init__(self, folder, threads, graph="genai"):
        import onnxruntime_genai

        self.library = onnxruntime_genai
        config = onnxruntime_genai.Config(str(folder / graph))
        session = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        self.model = onnxruntime_genai.Model(config)
        self.version = onnxruntime_genai.__version__

    def write(self, rows, count):
        import numpy

        settings = self.library.GeneratorParams(self.model)
        length = len(rows[0]) + count
        settings.set_search_options(
            do_sample=False, batch_size=len(rows), max_length=length, min_length=length, top_k=1
        )
        begun = time.perf_counter()
        generator = self.library.Generator(self.model, settings)
        generator.append_tokens(numpy.array(rows, numpy.int32))
        generator.generate_next_token()
        first = time.perf_counter()
        for _ in range(count - 1):
            generator.generate_next_token()
        return first - begun, time.perf_counter() - first


class Transformers:
    """transformers on PyTorch, eager, with its dynamic cache."""

    def __init__(self, folder, threads):
        import torch
        import transformers

        torch.set_num_threads(threads)
        self.torch = torch
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder / "hub", dtype=torch.float32).eval()
        self.version = f"{transformers.__version__}, torch {torch.__version__}"

    def write(self, rows, count):
        with self.torch.inference_mode():
            ids = self.torch.tensor(rows)
            begun = time.perf_counter()
            found = self.model(input_ids=ids, use_cache=True, logits_to_keep=1)
            chosen = found.logits[:, -1].argmax(-1, keepdim=True)
            first = time.perf_counter()
            for _ in range(count - 1):
                found = self.model(input_ids=chosen, past_key_values=found.past_key_values, use_cache=True)
                chosen = found.logits[:, -1].argmax(-1, keepdim=True)
            return first - begun, time.perf_counter() - first


PEERS = {"genai": Genai, "transformers": Transformers}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="what make_qwen_shaped.py wrote")
    parser.add_argument("--peer", action="append", choices=PEERS, help="this one; may be given again")
    parser.add_argument("--streams", action="append", type=int, help="at once; may be given again; default: 1 and 8")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt; default: 128")
    parser.add_argument("--tokens", type=int, default=32, help="tokens to write; default: 32")
    parser.add_argument("--repeats", type=int, default=3, help="default: 3")
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    options = parser.parse_args()
    for name in options.peer or PEERS:
        peer = PEERS[name](options.folder, options.threads)
        for streams in options.streams or [1, 8]:
            rows = prompts(streams, options.prompt)
            times = [peer.write(rows, options.tokens) for _ in range(options.repeats + 1)][1:]
            first = statistics.median(first for first, _ in times)
            rest = statistics.median(rest for _, rest in times)
            line = {"peer": name, "version": peer.version, "streams": streams, "threads": options.threads}
            line |= {"prompt_tokens": options.prompt, "first_token_ms": round(first * 1000, 1)}
            line |= {"tokens_per_second": round(streams * (options.tokens - 1) / rest, 2)}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
