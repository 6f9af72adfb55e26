#!/usr/bin/env bash
# Prepares tests/bench/bench_peers.py: what is there already stays.
#
#   build/peers    a venv with llama-cpp-python, built from PyPI's source for this machine, and gguf (two cores: half an hour)
#   MODEL          the 1B shape of random weights, and the same as GGUF: bf16.gguf, q8_0.gguf (6.3 GB together)
#
# usage: tests/bench/peers_setup.sh MODEL
set -euo pipefail
cd "$(dirname "$0")/../.."

MODEL=${1:?usage: tests/bench/peers_setup.sh MODEL}
VENV=build/peers
REQUIREMENTS=tests/bench/peers_requirements.txt
LOG=build/peers.log

# The stamp holds the requirements that the venv was made for, and is written last.
make_venv() {
    local stamp=$VENV/requirements.stamp
    cmp -s "$REQUIREMENTS" "$stamp" && return
    echo "bench-peers: building $(grep -v '^#' "$REQUIREMENTS" | xargs) into $VENV (log: $LOG)"
    mkdir -p build
    rm -rf "$VENV"
    if ! python3 -m venv "$VENV" >"$LOG" 2>&1 ||
        ! CMAKE_ARGS="-DGGML_NATIVE=ON" CMAKE_BUILD_PARALLEL_LEVEL=2 nice -n 19 \
            "$VENV/bin/pip" --disable-pip-version-check install --no-binary llama-cpp-python -r "$REQUIREMENTS" >>"$LOG" 2>&1; then
        tail -n 20 "$LOG" >&2
        return 1
    fi
    cp "$REQUIREMENTS" "$stamp"
}

make_model() {
    local python=$VENV/bin/python
    { [ -e "$MODEL/model.safetensors" ] && [ -e "$MODEL/tokenizer.json" ]; } || nice -n 19 "$python" tests/bench/make_model.py llama-1b "$MODEL"
    [ -e "$MODEL/bf16.gguf" ] || nice -n 19 "$python" tests/bench/gguf_of_model.py "$MODEL" "$MODEL/bf16.gguf"
    [ -e "$MODEL/q8_0.gguf" ] || nice -n 19 "$python" tests/bench/peer_llama.py "$MODEL/bf16.gguf" --quantize "$MODEL/q8_0.gguf"
}

make_venv
make_model
