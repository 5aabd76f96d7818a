"""Vectors of all-MiniLM-L6-v2 by sentence-transformers (PyTorch), for the test of SentenceTransformer.

    pip install sentence-transformers; python minilm.py FOLDER_OF_THE_MODEL > minilm.json

The first 16 of 384 values of each sentence, and all inner products.
"""
import json
import sys

from sentence_transformers import SentenceTransformer

sentences = [
    "A dog runs .",
    "A child in a pink dress is climbing up a set of stairs in an entry way .",
    "Two men, one of them wearing a café apron, are ARGUING loudly (in the rain)!",
    "dog",
    # Between 128 and 256 tokens, and more than 256.
    " ".join(["A man throws a frisbee to his dog on the beach ."] * 14),
    " ".join(["The quick brown fox jumps over the lazy dog while it snows ."] * 30),
]
model = SentenceTransformer(sys.argv[1], device="cpu")
vectors = model.encode(sentences, batch_size=1)
json.dump({
    "sentences": sentences,
    "vectors": [[round(float(x), 7) for x in row[:16]] for row in vectors],
    "products": [[round(float(x), 6) for x in row] for row in vectors @ vectors.T],
}, sys.stdout, indent=1)
print()
