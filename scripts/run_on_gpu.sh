#!/usr/bin/env bash
# The benchmark and the comparison with torch on a machine with an NVIDIA GPU, from a checkout, without openvino.
#
#     scripts/run_on_gpu.sh OUT [WHEELS]
#
# OUT      a folder for the results (JSON, CSV, PNG, logs)
# WHEELS   a folder of wheels that this Python lacks; ov-moe's benchmark needs pyopencl (with pytools, platformdirs
#          and siphash24), numpy, rich and typer. Nothing is downloaded.
#
# PARTS names the parts to run, all of them unless given: schedules torch shapes ablation stages recorded. PYTHON,
# BENCH_ARGS and TORCH_ARGS add to what is run, e.g. BENCH_ARGS='--set tile_m=64'. A part that fails does not stop the
# next one; the exit status then is 1.
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
part() { # NAME COMMAND...: the command, its output shown and kept in OUT/NAME.log
    local name=$1
    shift
    case " ${PARTS:-$name} " in *" $name "*) ;; *) return 0 ;; esac
    echo "== $name: $*"
    "$@" 2>&1 | tee "$out/$name.log" || status=1
}

IFS=' ' read -r -a more <<<"${BENCH_ARGS:-}"
IFS=' ' read -r -a torch <<<"${TORCH_ARGS:-}"
plot=()
"$python" -c 'import matplotlib' 2>/dev/null && plot=(--plot "$out/schedules.png")
# What users choose between, over tokens and distributions.
part schedules "$python" -m ov_moe.kernel_bench --shape qwen3-30b,gpt-oss-20b --tokens 16,128,512,1024,2048,4096,8192 \
    --distribution balanced,power1.2 --schedule grid,grid-largest,loop,pool-stride,pool-ticket --stage layer \
    --seconds 0.6 --repeats 10 --json "$out/schedules.json" --csv "$out/schedules.csv" "${plot[@]}" "${more[@]}"
# The same layer through torch.
part torch "$python" scripts/compare_torch.py --shape qwen3-30b,gpt-oss-20b --tokens 16,128,512,1024,2048,4096,8192 \
    --distribution power1.2 --schedule grid,pool-ticket --seconds 1.5 --json "$out/torch.json" "${torch[@]}"
# Every shape under every distribution.
part shapes "$python" -m ov_moe.kernel_bench --shape deepseek-v2-lite,qwen3-next,granite-3.0-1b,mixtral-8x7b,qwen3-235b \
    --tokens 1024 --distribution balanced,uniform,power1.01,power1.2,hot,worst \
    --schedule grid,grid-largest,loop,pool-stride,pool-ticket --stage layer --seconds 0.4 --repeats 10 \
    --json "$out/shapes.json" --csv "$out/shapes.csv" "${more[@]}"
# How tasks are taken, found and ordered; the stages alone.
part ablation "$python" -m ov_moe.kernel_bench --shape qwen3-30b --tokens 128,1024,8192 --distribution power1.2 \
    --schedule grid,pool-stride,pool-ticket,pool-ticket-search,pool-ticket-walk,pool-ticket-tiles \
    --stage gate_up,down --seconds 0.6 --json "$out/ablation.json" --csv "$out/ablation.csv" "${more[@]}"
part stages "$python" -m ov_moe.kernel_bench --shape qwen3-30b --tokens 16,1024,8192 --distribution power1.2 \
    --schedule grid,pool-ticket --stage layer,route,gate_up,down,combine --seconds 0.5 --json "$out/stages.json" "${more[@]}"
# The recorded routing, with the shape and the format that it was recorded from.
part recorded "$python" -m ov_moe.kernel_bench --shape gpt-oss-20b --precision f4e2m1 --tokens 2012 --distribution recorded \
    --schedule grid,pool-stride,pool-ticket --stage layer --seconds 2 --json "$out/recorded.json" "${more[@]}"
exit "$status"
