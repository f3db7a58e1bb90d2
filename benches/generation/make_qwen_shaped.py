#!/usr/bin/env python3
"""Makes a language model of the shape of Qwen2.5-0.5B with weights drawn by chance, to measure speed with.

  DIR/hub/    as the Hugging Face hub lays models out: config.json, model.safetensors in bfloat16 (1 GB), and
              the tokenizer of model-server/fixtures/models/tiny-lm with words " t1280", " t1281" and so on
              for the rest of the vocabulary
  DIR/genai/  ONNX in onnxruntime-genai's layout (GroupQueryAttention), by its own model builder; 2 GB in fp32

What it writes means nothing, and time does not depend on that. Needs torch, transformers, safetensors, onnx,
onnx-ir, onnxruntime and onnxruntime-genai; onnxruntime-genai 0.18.0 wants transformers 5.24.0.

  python3 make_qwen_shaped.py DIR
  python3 make_qwen_shaped.py DIR --precision int4
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

TOKENIZER = pathlib.Path(__file__).parents[2] / "model-server/fixtures/models/tiny-lm"
VOCABULARY = 151_936


def hub(folder):
    folder.mkdir(parents=True, exist_ok=True)
    generation = json.loads((TOKENIZER / "generation_config.json").read_text())
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        rope_theta=1_000_000.0,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        use_sliding_window=False,
        bos_token_id=generation["bos_token_id"],
        eos_token_id=generation["eos_token_id"][0],
        pad_token_id=generation["pad_token_id"],
    )
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    torch.set_default_dtype(torch.float32)
    for name in ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(TOKENIZER / name, folder / name)
    tokenizer = json.loads((TOKENIZER / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    # Special tokens keep their numbers only if the words hold them as well, now that words follow them.
    words.update({token["content"]: token["id"] for token in tokenizer["added_tokens"]})
    # Ġ is how byte-level tokenizers write a space.
    words.update({f"Ġt{number}": number for number in range(len(words), VOCABULARY)})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))


def genai(source, folder, precision):
    with tempfile.TemporaryDirectory(dir=folder.parent) as cache:
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(source), "-o", str(folder)]
        subprocess.run([*command, "-p", precision, "-e", "cpu", "-c", cache], check=True, stderr=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="the folder to write to")
    parser.add_argument("--precision", choices=["fp32", "int4"], default="fp32", help="of the graph; default: fp32")
    options = parser.parse_args()
    if not (options.folder / "hub/tokenizer.json").exists():
        hub(options.folder / "hub")
    name = "genai" if options.precision == "fp32" else f"genai-{options.precision}"
    genai(options.folder / "hub", options.folder / name, options.precision)


if __name__ == "__main__":
    main()
