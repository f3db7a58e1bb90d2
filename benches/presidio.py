"""What Presidio's pattern recognisers find in texts with marked personal data, and how fast.

Measured beside `cargo bench --bench redaction -- --data DIR`, by the same rules; needs presidio-analyzer in the
Python environment. No language model: spaCy's blank English pipeline only splits words.

Usage: python benches/presidio.py DIR
"""

import json
import sys
import time
from collections import Counter
from pathlib import Path

import spacy
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import SpacyNlpEngine

# What it calls a kind that the texts mark.
KINDS = {
    "EMAIL_ADDRESS": "email",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "US_SSN": "national-id",
    "US_DRIVER_LICENSE": "national-id",
    "IP_ADDRESS": "ip",
    "PHONE_NUMBER": "phone",
}


class Blank(SpacyNlpEngine):
    """Words without a model."""

    def __init__(self):
        super().__init__()
        self.nlp = {"en": spacy.blank("en")}


def main():
    lines = (Path(sys.argv[1]) / "pii_presidio_synth_v2.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line) for line in lines]
    engine = AnalyzerEngine(nlp_engine=Blank(), supported_languages=["en"])
    entities = list(KINDS)
    engine.analyze(texts[0]["text"], language="en", entities=entities)
    begun = time.perf_counter()
    found = [engine.analyze(each["text"], language="en", entities=entities) for each in texts]
    seconds = time.perf_counter() - begun
    marked, predicted, exact, touched = Counter(), Counter(), Counter(), Counter()
    for each, results in zip(texts, found):
        gold = [(KINDS[s["type"]], s["start"], s["end"]) for s in each["spans"] if s["type"] in KINDS]
        best = []
        for result in sorted(results, key=lambda r: (-r.score, r.start - r.end)):
            if all(result.end <= b.start or b.end <= result.start for b in best):
                best.append(result)
        for kind, _, _ in gold:
            marked[kind] += 1
        for result in best:
            kind = KINDS[result.entity_type]
            predicted[kind] += 1
            exact[kind] += (kind, result.start, result.end) in gold
            touched[kind] += any(k == kind and s < result.end and result.start < e for k, s, e in gold)
    print(f"{'kind':<14}{'marked':>8}{'found':>8}{'F1 exact':>10}{'F1 touched':>12}")
    f1 = lambda hits, kind: 2 * hits[kind] / max(1, marked[kind] + predicted[kind])
    for kind in dict.fromkeys(KINDS.values()):
        print(f"{kind:<14}{marked[kind]:>8}{predicted[kind]:>8}{f1(exact, kind):>10.3f}{f1(touched, kind):>12.3f}")
    print(f"{len(texts) / seconds:.0f} texts a second")


if __name__ == "__main__":
    main()
