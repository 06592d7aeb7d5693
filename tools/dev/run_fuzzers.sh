#!/bin/bash
# Runs every fuzzer of a folder for some seconds: run_fuzzers.sh FOLDER SECONDS. The corpus of each is kept in FOLDER/../corpus.
set -u
folder=$1 seconds=$2 passed=0 failed=0
for program in "$folder"/fuzz_*; do
  [ -x "$program" ] || continue
  name=$(basename "$program") corpus=$folder/../corpus/$(basename "$program")
  mkdir -p "$corpus"
  seeds=tests/fuzz/seeds/${name#fuzz_}
  echo "$name, $seconds s"
  if "$program" "$corpus" $([ -d "$seeds" ] && echo "$seeds") -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
      -verbosity=0 -print_final_stats=0 -artifact_prefix="$corpus/../"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
