#!/usr/bin/env bash
# One command for a machine with an NVIDIA GPU: the test suite, every bench, and the same on CUDA by PyTorch.
#   PYTHON=/path/to/python bench/gpu.sh      (python with torch, transformers and peft)
# Results go to bench/results/; `npm run docs` puts them into README. A part that fails does not stop the rest.
set -uo pipefail
cd "$(dirname "$0")/.."
export LOWRANK_ADAPTER="${LOWRANK_ADAPTER:-gpu}"
export PYTHON="${PYTHON:-python3}"
results="${RESULTS:-bench/results}"
mkdir -p "$results"
failed=()

part() {
  local name="$1"
  shift
  echo "== $name"
  "$@" || failed+=("$name")
}

part "device" npm run --silent doctor
[ "${SKIP_TESTS:-}" ] || part "tests" npm test
part "benches" npm run --silent bench -- ${FILTER:-} --json "$results/$LOWRANK_ADAPTER.json"
part "other libraries, installed" npm install --prefix bench/peers --no-audit --no-fund
part "other libraries" npm run --silent bench:peers -- ${FILTER:-} --json "$results/$LOWRANK_ADAPTER-peers.json"
part "large products, GPT-2 124M LoRA" npx tsx bench/gpu.ts ${SMALL:+--small} --json "$results/$LOWRANK_ADAPTER-large.json"
part "CUDA" "$PYTHON" bench/cuda.py ${SMALL:+--small} --json "$results/cuda.json"

if [ ${#failed[@]} -gt 0 ]; then
  printf 'failed: %s\n' "${failed[@]}"
  exit 1
fi
