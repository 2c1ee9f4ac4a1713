#!/usr/bin/env bash
# A session on a machine with an NVIDIA GPU: the tests of rung f, the board, a profile; within eight minutes, into one folder.
#
#     benchmarks/gpu_session.sh OUT [WHEELS]
#
# WHEELS is a folder of wheels that were carried along (minidl's own built from this checkout, cupy-cuda13x with nvidia-cuda-nvrtc
# and nvidia-cuda-runtime, pytest, hypothesis, and torch for CUDA if there is room); nothing is downloaded then. Without it, what is
# installed is used. Only Python and CUDA's driver are taken for granted. Make the wheels with
#
#     pip wheel --wheel-dir WHEELS . 'cupy-cuda13x[ctk]' pytest hypothesis
#
# Exit codes: 0 everything ran; 3 there is no GPU, which is also said; 1 something failed, and what ran is in OUT.
set -uo pipefail
started=$SECONDS
root=$(cd "$(dirname "$0")/.." && pwd)
out=$(mkdir -p "$1" && cd "$1" && pwd)
python=${PYTHON:-python3}
export PYTHONDONTWRITEBYTECODE=1 MPLBACKEND=Agg
cd "$root"

left() { echo $((480 - (SECONDS - started) - $1)); } # seconds for a step, if $1 are kept for those after it
say() { printf '%4d s  %s\n' $((SECONDS - started)) "$*" | tee -a "$out/session.txt"; }

: >"$out/session.txt"
nvidia-smi >"$out/card.txt" 2>&1 || echo "nvidia-smi is not here" >>"$out/card.txt"
if [ $# -gt 1 ]; then
    say "installing from $2"
    "$python" -m venv "$out/venv" || exit 1
    python=$out/venv/bin/python
    wheels=(minidl cupy-cuda13x pytest hypothesis)
    compgen -G "$2/nvidia_cuda_nvrtc*" >/dev/null && wheels+=(nvidia-cuda-nvrtc nvidia-cuda-runtime)
    compgen -G "$2/torch-*" >/dev/null && wheels+=(torch)
    "$python" -m pip install --quiet --no-index --find-links "$2" "${wheels[@]}" 2>&1 | tee -a "$out/session.txt"
    work=$(mktemp -d) # so that the installed package is used, not the checkout
    trap 'rm -rf "$work" "$out/venv"' EXIT
    cd "$work"
fi

"$python" -m minidl.cli info >"$out/info.txt" 2>&1
reason=$("$python" -c 'import minidl; s = minidl.engines()["cupy"]; print("" if s.available else s.reason)') || exit 1
if [ -n "$reason" ]; then
    say "GPU: not run: $reason"
    exit 3
fi
failed=0

say "the tests of rung f"
timeout "$(left 240)" "$python" -m pytest -q -c "$root/pyproject.toml" --rootdir "$root" -p no:cacheprovider -m gpu_device \
    --gpu-ladder "$out/ladder.json" "$root/tests/gpu/test_device.py" >"$out/tests.txt" 2>&1 || failed=1
tail -n 3 "$out/tests.txt" | tee -a "$out/session.txt"

say "the board"
timeout "$(left 50)" "$python" "$root/benchmarks/board.py" --device gpu --rounds 3 --seconds "$(left 80)" --json "$out/board.json" \
    --only "linear regression,batch 128,1000-4000,conv 32,residual,GPT,causal,cross-entropy,layer norm,gelu,4096,LSTM" \
    >"$out/board.txt" 2>&1 || failed=1

say "the profile"
timeout "$(left 5)" "$python" "$root/benchmarks/profile_gpu.py" >"$out/profile.txt" 2>&1 || failed=1

say "done, $([ $failed = 0 ] && echo everything ran || echo something failed)"
exit $failed
