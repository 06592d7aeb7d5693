#!/bin/bash
# Runs what launches kernels of the opencl chip under oclgrind (Debian: oclgrind), which interprets them and watches every access to
# memory, and work-items that race for it: the kit's light cases of each operator, the chip's own tests, and a tiny model of each family.
# Fails on any report. Some minutes in all; the time of each is printed.
#   tools/check/run_oclgrind.sh BUILD_FOLDER [OPERATOR …]      without operators: all that have a kernel, the tests and the models
set -u
build=${1:?the build folder}
shift
operators=("$@")
[ $# -gt 0 ] || operators=(embed matmul norm rope swiglu gated_matmul add kv_write gqa_attention gather_rows copy_blocks convert sample router
  moe_sort grouped_matmul moe_combine moe_experts latent_attention index_topk compress hc_pre hc_post index_blocks engram_gate lora_add)
command -v oclgrind >/dev/null || { echo "oclgrind is not installed" && exit 77; }
golden=$(dirname "$0")/../../tests/golden
chip=$build/bin/libhadal_opencl.so
log=$(mktemp)
trap 'rm -f "$log"' EXIT
broken=0

# A work-item may look at the fault while another of its launch sets it: it finds 0 or its own launch, and goes on in both cases.
other_reports() {
  awk '/data race at|^Invalid |^Uninit|^[A-Z].*error/ { flush() } { record = record $0 "\n" } END { flush() }
    function flush() {
      if (record ~ /[^ \t\n]/ && !(record ~ /if \(FAULTED\)/ && record ~ /atomic_cmpxchg\(fault/)) printf "%s", record
      record = ""
    }' "$log"
}

# watch NAME COMMAND…: one line, or what went wrong. What the command said is left in `said`.
watch() {
  local name=$1 started status reports
  shift
  : >"$log"
  started=$(date +%s)
  said=$(nice -n 10 oclgrind --data-races --log "$log" "$@" 2>&1)
  status=$?
  taken=$(awk -v op="$name" '$1 == op && NF >= 6 { print $2 - $3 " cases" }' <<<"$said")
  reports=$(other_reports)
  if [ $status -ne 0 ] || [ "$taken" = "0 cases" ]; then
    echo "$name: failed, or ran nothing:" && grep -m 3 -e FAILED -e declined -e hadal: <<<"$said"
    broken=1
  elif [ -n "$reports" ]; then
    echo "$name: oclgrind reports:" && head -20 <<<"$reports"
    broken=1
  else
    echo "$name: clean${taken:+, $taken}, $(($(date +%s) - started)) s"
  fi
}

for op in "${operators[@]}"; do
  watch "$op" "$build/bin/hadal-conformance" --quick --light --level operators --op "$op" --timeout 3600 --chip "$chip"
done
[ $# -gt 0 ] && exit $broken
for test in opencl_weights_test opencl_program_test; do
  [ -x "$build/bin/$test" ] && watch $test "$build/bin/$test"
done
for model in llama llama-bias qwen3 deepseek-moe deepseek-v2 deepseek-v3-fp8 deepseek-v32 deepseek-v4-fp4 deepseek-v41; do
  [ -x "$build/bin/hadal" ] || continue
  file=$(sed -n 's/.*"model": *"\([^"]*\)".*/\1/p' "$golden/$model/golden.json" | head -1)
  watch $model "$build/bin/hadal" logits "$golden/$model/$file" --ids 5,9,12,7,33 --chip "$chip" --out /dev/null
done
exit $broken
