"""Logits of small decoders by transformers, for the tests beside this file.

    python make_goldens.py > goldens.json

Needs torch and transformers 4.57. The weights are no file: `value` says what they are, here and in the tests.
"""

import json
import math
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM

VOCABULARY = 40
COMMON = {
    "vocab_size": VOCABULARY, "hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 2,
    "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5, "rope_theta": 500.0, "tie_word_embeddings": False,
}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
CASES = {
    "llama": {"model_type": "llama"},
    "llama with biases, tied": {"model_type": "llama", "attention_bias": True, "tie_word_embeddings": True},
    "llama, linear": {"model_type": "llama", "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "llama, llama3": {"model_type": "llama", "rope_scaling": LLAMA3},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3"},
}


def value(name, at):
    """The number at place `at` of a tensor, row by row."""
    seed = sum((n + 1) * byte for n, byte in enumerate(name.encode())) % 1000
    wave = math.sin(0.7 * seed + 1.3 * at + 0.001 * at * at)
    return 1.0 + 0.2 * wave if name.endswith("norm.weight") else 0.4 * wave


def tokens(count):
    return [(7 * at * at + 3 * at + 1) % VOCABULARY for at in range(count)]


@torch.no_grad()
def case(changes):
    settings = COMMON | changes
    config = AutoConfig.for_model(**settings)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").double().eval()
    shapes = {}
    for name, weight in model.named_parameters():
        shapes[name] = list(weight.shape)
        weight.copy_(torch.tensor([value(name, at) for at in range(weight.numel())], dtype=torch.float32).view(weight.shape))
    logits = model(torch.tensor([tokens(100)])).logits[0]
    kept = {str(count): [round(number, 6) for number in logits[count - 1].tolist()] for count in (1, 2, 9, 100)}
    return {"config": settings, "shapes": shapes, "logits": kept}


json.dump({name: case(changes) for name, changes in CASES.items()}, sys.stdout, separators=(",", ":"))
print()
