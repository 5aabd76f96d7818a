"""Sentences a second, this project's SentenceTransformer beside sentence-transformers (PyTorch), in turns in one run.

    cargo build -p dml-teacher --example throughput
    pip install sentence-transformers
    python throughput.py target/debug/examples/throughput FOLDER_OF_THE_MODEL SENTENCES [RUNS]

SENTENCES has one sentence a line. Both encode all of them in each run, after a warm-up, with sentence-transformers' default
batch; loading is not counted. Prints the medians, the ratio, and the largest difference of a value.
"""
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

program, folder, file = sys.argv[1:4]
runs = int(sys.argv[4]) if len(sys.argv) > 4 else 5
sentences = pathlib.Path(file).read_text(encoding="utf-8").splitlines()
model = SentenceTransformer(folder, device="cpu")
model.encode(sentences[:64])
ours, theirs = [], []
with tempfile.TemporaryDirectory() as place:
    output = pathlib.Path(place) / "vectors.safetensors"
    for _ in range(runs):
        text = subprocess.run([program, folder, file, output], check=True, capture_output=True, text=True).stdout
        ours.append(float(re.search(r"([\d.]+) sentences/s", text)[1]))
        start = time.perf_counter()
        vectors = model.encode(sentences, normalize_embeddings=True, convert_to_tensor=True)
        theirs.append(len(sentences) / (time.perf_counter() - start))
    difference = (load_file(output)["vectors"] - vectors).abs().max().item()
a, b = statistics.median(ours), statistics.median(theirs)
print(f"{len(sentences)} sentences, {runs} runs, {torch.get_num_threads()} threads, torch {torch.__version__}")
print(f"ours {a:.0f} sentences/s ({min(ours):.0f} to {max(ours):.0f}), "
      f"sentence-transformers {b:.0f} ({min(theirs):.0f} to {max(theirs):.0f}), ratio {a / b:.2f}, "
      f"largest difference {difference:.2g}")
