#!/usr/bin/env bash
# Fuzzes one target (pickle, protobuf or safetensors) for so many seconds: run.sh TARGET SECONDS
# A stable toolchain will do: libFuzzer needs coverage only. What was found stays in corpus/TARGET and is gone on from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
target=$1 seconds=$2
flags="--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
  flags+=" -Cllvm-args=-sanitizer-coverage-$option"
done
# With --target the flags do not reach build scripts and macros, which have no libFuzzer.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS=$flags cargo build --quiet --release --target "$host" --bin "$target"
mkdir -p "corpus/$target" "seeds/$target"
case $target in
  pickle) cp ../tests/golden/*.{pkl,pth,pickle,npy,npz} "seeds/$target" ;;
  protobuf) cp ../tests/golden/*.{caffemodel,binaryproto} "seeds/$target" ;;
  safetensors) cp ../tests/golden/*.safetensors "seeds/$target" ;;
esac
"target/$host/release/$target" -max_total_time="$seconds" -max_len=16384 -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
  "corpus/$target" "seeds/$target"
