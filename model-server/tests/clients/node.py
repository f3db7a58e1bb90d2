"""The node that the clients talk to, and what it should answer. Its test in Rust starts it."""

import json
import os
import pathlib

ADDRESS = os.environ["MODEL_SERVER_ADDRESS"]
FIXTURES = pathlib.Path(os.environ["MODEL_SERVER_FIXTURES"])
EMBEDDER = "all-MiniLM-L6-v2"
PROMPTED_EMBEDDER = "tiny-embedder"
CROSS_ENCODER = "tiny-cross-encoder"
LATE_INTERACTION = "tiny-late-interaction"
SEQUENCE_CLASSIFIER = "tiny-sequence-classifier"
TOKEN_CLASSIFIER = "tiny-token-classifier"

# The largest difference of a number from the reference implementation's, which computes in float64.
TOLERANCE = 1e-4


def goldens(model):
    """What the reference implementation makes of some inputs."""
    file = "embeddings.json" if model == EMBEDDER else f"goldens/{model}.json"
    return json.loads((FIXTURES / file).read_text(encoding="utf-8"))["rows"]


def by(rows, *keys):
    """Rows in lists that share the values of these keys; a row without one has "" there."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key, "") for key in keys), []).append(row)
    return groups.items()
