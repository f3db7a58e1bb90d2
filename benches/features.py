"""What benches/features.rs measures, by transformers' WhisperFeatureExtractor on one thread.

Needs Python 3.11 with numpy and transformers; where torch is installed, the extractor uses it.
"""

import statistics
import time

import numpy as np
from transformers import WhisperFeatureExtractor

try:
    import torch

    torch.set_num_threads(1)
except ImportError:
    torch = None

ROUNDS = 15


def milliseconds(bands, seconds):
    samples = (np.random.default_rng(1).random(seconds * 16_000, np.float32) - 0.5) * 0.2
    extractor = WhisperFeatureExtractor(feature_size=bands)
    numpy = lambda: extractor._np_extract_fbank_features([np.pad(samples, (0, extractor.n_samples - len(samples)))], "cpu")
    usual = lambda: extractor(samples, sampling_rate=16_000, return_tensors="np")
    times = []
    for make in (usual, numpy):
        taken = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            make()
            taken.append(time.perf_counter() - began)
        times.append(statistics.median(taken) * 1e3)
    return times


print(f"{'sound':<12}{'bands':>8}{'torch' if torch else 'usual':>12}{'numpy':>12}")
for seconds in (1, 5, 30):
    for bands in (80, 128):
        usual, numpy = milliseconds(bands, seconds)
        print(f"{seconds:>3} s{bands:>16}{usual:>9.2f} ms{numpy:>9.2f} ms")
