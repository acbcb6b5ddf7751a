#!/bin/bash
# Everything that a machine with a GPU of NVIDIA should show, in at most six minutes:
#
#     benchmarks/device_check.sh [--cpu] [FOLDER]
#
# Kernels against stored references, sanitizers, times, a profile, a distillation and Label Solve on
# the GPU. --cpu does the first on a CPU that simulates one. Results go to FOLDER, by default $OUT or
# device_check/. Each step has a limit of its own, so that the others go on if it fails or hangs.
# The last lines say what held; the status is 1 if something failed.
#
# It needs python3 with JAX, SciPy, scikit-learn, matplotlib and cuda-core, and runs kipper from this
# checkout. Nothing is downloaded. Libraries in workers/native/lib and common/native/lib are used if
# they are of these sources; otherwise g++ compiles them. Wheels in .whl/, such as cuda-core 1.2 if
# another is there, are installed for the check alone. Variables: CIFAR10 is a .tar.xz with images
# in train/CLASS and test/CLASS, TARGETS the number of these that labels are solved for (10000);
# PYTHON is another python3, LIMIT another limit in seconds (350; with --cpu 3600).
set -u
cd "$(dirname "$0")/.." || exit 1

cpu=""
[ "${1:-}" = --cpu ] && { cpu=1; shift; }
out=${1:-${OUT:-device_check}}
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
python=${PYTHON:-python3}
if [ -n "$cpu" ]; then limit=3600; else limit=350; fi
end=$(($(date +%s) + ${LIMIT:-$limit}))
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

ln -s "$PWD" "$scratch/kipper"
export PYTHONPATH="$scratch:$scratch/wheels${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore XLA_PYTHON_CLIENT_PREALLOCATE=false
# Programs are compiled here, and not taken from an earlier check.
export XDG_CACHE_HOME="$scratch/cache"
summary="$out/summary.txt"
log="$out/log.txt"
rm -f "$out"/{summary,log,machine,sanitizer,profile}.txt "$out"/{correctness,times,runs}.json
failed=0

note() { printf '%-14s %s\n' "$1" "$2" | tee -a "$summary"; }

# step NAME SECONDS FILE COMMAND…: runs it, with a limit, into FILE of the results.
step() {
    local name=$1 limit=$2 file=$3 left started status
    shift 3
    left=$((end - $(date +%s)))
    [ "$left" -lt 5 ] && { note "$name" "not begun: no time is left"; return 1; }
    [ "$limit" -gt "$left" ] && limit=$left
    started=$(date +%s)
    printf '\n=== %s: %s\n' "$name" "$*" >>"$log"
    timeout -k 5 "$limit" "$@" >>"$out/$file" 2>>"$log"
    status=$?
    case $status in
    0) note "$name" "ok, $(($(date +%s) - started)) s" ;;
    124 | 137) note "$name" "FAILED: stopped after $limit s" ;;
    *) note "$name" "FAILED with status $status; see log.txt" ;;
    esac
    [ "$status" = 0 ] || failed=$((failed + 1))
    return "$status"
}

if compgen -G ".whl/*.whl" >/dev/null; then
    step wheels 60 log.txt "$python" -m pip install -q --no-index --no-deps --no-compile \
        --target "$scratch/wheels" .whl/*.whl
fi

missing='
import sys
from kipper.common import linalg
from kipper.workers import native_library
sys.exit(linalg.unavailable() or native_library.unavailable())
'
"$python" -c "$missing" 2>>"$log" || step libraries 90 log.txt "$python" -m kipper.workers.native.build

if [ -n "$cpu" ]; then
    step correctness 3600 correctness.json "$python" benchmarks/device_check.py correctness --device=simulated
    tail -n 1 "$out/correctness.json"
    exit $((failed > 0))
fi

{
    nvidia-smi
    uname -a
    "$python" --version
    "$python" -m pip list 2>/dev/null | grep -i -E '^(cuda|cupy|jax|numpy|nvidia-cuda)'
    timeout 30 "$python" -m kipper doctor # of a checkout, which it finds wrong
} >"$out/machine.txt" 2>>"$log"

step correctness 120 correctness.json \
    "$python" benchmarks/device_check.py correctness --jobs="$(nproc)"
tail -n 1 "$out/correctness.json" | tee -a "$summary"

step times 80 times.json "$python" benchmarks/device_check.py times

if sanitizer=$(command -v compute-sanitizer); then
    for tool in memcheck racecheck; do
        step "$tool" 40 sanitizer.txt "$sanitizer" --error-exitcode=9 --tool="$tool" \
            "$python" benchmarks/device_check.py launch --counts 1 2
    done
else
    note sanitizer "skipped: there is no compute-sanitizer"
fi

# run NAME SECONDS COMMAND --engine=…: carries out a run, and keeps its result.
run() {
    local name=$1 limit=$2
    shift 2
    step "$name" "$limit" log.txt "$python" -m kipper "$@" --architecture=convnet --num_workers=1 \
        --dashboard=none --workdir="$scratch/$name" || return
    printf '{"run": "%s", "result": %s}\n' "$name" "$(tr -d '\n' <"$scratch/$name/result.json")" \
        >>"$out/runs.json"
}
# By the GPU, and for comparison by this machine's cores.
for engine in banded_cuda banded_cpu; do
    run "distill $engine" 60 distill --engine=$engine --dataset=digits --support_size=20 \
        --learn_labels --target_batch_size=500 --steps=20
done

step "times, XLA" 80 times.json \
    "$python" benchmarks/device_check.py times --engine=banded_xla --cases='convnet 32' --seconds=1
step "times, NT" 40 times.json \
    "$python" benchmarks/device_check.py times --engine=neural_tangents --cases='convnet 32' --seconds=1

if profiler=$(command -v ncu); then
    step profile 50 profile.txt "$profiler" --clock-control none --kernel-name regex:cross \
        --section SpeedOfLight --section Occupancy --section LaunchStats --section WarpStateStats \
        "$python" benchmarks/device_check.py launch
else
    note profile "skipped: there is no ncu"
fi

images="$scratch/cifar10"
mkdir "$images"
if [ -n "${CIFAR10:-}" ] && tar -xJf "$CIFAR10" -C "$images" 2>>"$log"; then
    run "label solve" 120 solve_labels --engine=banded_cuda --dataset="folder:$images" \
        --support_size=500 --train_limit="${TARGETS:-10000}" --test_limit=2000
else
    note "label solve" "skipped: CIFAR10 names no archive"
fi

if [ "$failed" = 0 ]; then
    note all "held"
else
    note all "$failed steps failed; see log.txt"
fi
exit $((failed > 0))
