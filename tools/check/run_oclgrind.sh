#!/bin/bash
# Runs the kit's quick cases of the opencl chip under oclgrind (Debian: oclgrind), which interprets kernels and watches every access to
# memory. Fails on any report. Slow: minutes for most operators, an hour and more for matmul and index_topk.
#   tools/check/run_oclgrind.sh BUILD_FOLDER [OPERATOR …]      without operators: those that end within minutes
set -u
build=${1:?the build folder}
shift
[ $# -gt 0 ] || set -- embed add norm rope swiglu gather_rows copy_blocks convert kv_write router moe_sort moe_combine grouped_matmul \
  latent_attention compress hc_pre hc_post engram_gate lora_add
command -v oclgrind >/dev/null || { echo "oclgrind is not installed" && exit 77; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
broken=0
for op in "$@"; do
  : >"$log"
  oclgrind --log "$log" "$build/bin/hadal-conformance" --quick --level dense --op "$op" --timeout 3600 --chip "$build/bin/libhadal_opencl.so" \
    >/dev/null || { echo "$op: the kit failed" && broken=1; }
  if [ -s "$log" ]; then
    echo "$op: oclgrind reports:" && head -20 "$log"
    broken=1
  else
    echo "$op: clean"
  fi
done
exit $broken
