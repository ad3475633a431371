#!/usr/bin/env bash
# The benchmark and the comparison with torch on a machine with an NVIDIA GPU, from a checkout, without openvino.
#
#     scripts/run_on_gpu.sh OUT [WHEELS]
#
# OUT      a folder for the results (JSON, CSV, PNG, logs)
# WHEELS   a folder of wheels that this Python lacks; ov-moe's benchmark needs pyopencl (with pytools, platformdirs
#          and siphash24), numpy, rich and typer. Nothing is downloaded.
#
# PYTHON, BENCH_ARGS and TORCH_ARGS add to what is run, e.g. BENCH_ARGS='--set tile_m=64'. A part that fails does not
# stop the next one; the exit status then is 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:?"usage: scripts/run_on_gpu.sh OUT [WHEELS]"}
wheels=${2:-}
python=${PYTHON:-python3}
mkdir -p "$out"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if [ -n "$wheels" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$scratch/site" "$wheels"/*.whl
fi
# NVIDIA's driver brings its OpenCL library, and sometimes no .icd file for it.
if [ -z "${OCL_ICD_VENDORS:-}" ]; then
    mkdir "$scratch/icd"
    echo libnvidia-opencl.so.1 >"$scratch/icd/nvidia.icd"
    export OCL_ICD_VENDORS=$scratch/icd
fi
export PYTHONPATH=$PWD${wheels:+:$scratch/site}${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

status=0
run() { # NAME COMMAND...: the command, its output shown and kept in OUT/NAME.log
    local name=$1
    shift
    echo "== $name: $*"
    "$@" 2>&1 | tee "$out/$name.log" || status=1
}

IFS=' ' read -r -a more <<<"${BENCH_ARGS:-}"
IFS=' ' read -r -a torch <<<"${TORCH_ARGS:-}"
plot=()
"$python" -c 'import matplotlib' 2>/dev/null && plot=(--plot "$out/schedules.png")
# What users choose between, over tokens and distributions.
run schedules "$python" -m ov_moe.bench --shape qwen3-30b,gpt-oss-20b --tokens 16,128,512,1024,4096 \
    --distribution uniform,power1.2,hot --schedule grid,grid-largest,pool-stride,pool-ticket --stage layer \
    --seconds 1.5 --repeats 10 --json "$out/schedules.json" --csv "$out/schedules.csv" "${plot[@]}" "${more[@]}"
# The ablation: how tasks are taken and found; the stages alone.
run ablation "$python" -m ov_moe.bench --shape qwen3-30b --tokens 1024 --distribution power1.2,balanced \
    --schedule grid,loop,pool-stride,pool-ticket,pool-ticket-search,pool-ticket-walk,pool-stride-search,pool-stride-walk \
    --stage layer,route,gate_up,down,combine --seconds 2 --json "$out/ablation.json" --csv "$out/ablation.csv" "${more[@]}"
# The recorded routing, with the shape that it was recorded from.
run recorded "$python" -m ov_moe.bench --shape gpt-oss-20b --precision f4e2m1 --tokens 2012 --distribution recorded \
    --schedule grid,pool-ticket --stage layer --seconds 3 --json "$out/recorded.json" "${more[@]}"
run torch "$python" scripts/compare_torch.py --shape qwen3-30b,gpt-oss-20b --tokens 16,128,1024,4096 \
    --distribution power1.2 --schedule grid,pool-ticket --seconds 4 --json "$out/torch.json" "${torch[@]}"
exit "$status"
