#!/bin/bash
# Runs the comparisons that need the oracle environment: run_oracles.sh PYTHON HADAL MODEL
set -u
python=$1 hadal=$2 model=$3 passed=0 failed=0
check() {
  echo "== $1"
  if "${@:2}"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}
check "generated files made again" "$python" tools/dev/check_generated.py --all
check "golden checkpoints made again" "$python" tools/generate/make_golden.py --check
check "adapters made again" "$python" tools/generate/make_adapters.py --check
check "random shapes of every family" "$python" tools/oracle/check_shapes.py "$hadal" --minutes 5
check "drafts on random shapes" "$python" tools/oracle/check_drafts.py "$hadal"
check "SmolLM2 against transformers" "$python" tools/oracle/check_smollm2.py "$hadal" "$model"
quant=$(mktemp -d)
trap 'rm -rf "$quant"' EXIT
check "one model a quantised type" "$python" tools/generate/make_quant_models.py "$quant"
check "same bits in every type" "$python" tools/check/check_bits.py "$hadal" "$quant" --quick
check "every type against its decoded weights" "$python" tools/generate/make_quant_models.py "$quant" --check "$hadal"
check "what rounding explains of every type's distance" "$python" tools/check/check_distance.py "$hadal" "$quant"
for script in tools/oracle/check_tokenizers.py tools/oracle/check_compressed_ids.py tools/oracle/check_chat.py tools/oracle/check_recipe.py; do
  [ -f "$script" ] && check "$(basename "$script" .py)" "$python" "$script" "$hadal"
done
check "JSON-Schema-Test-Suite through grammars" "$python" tools/check/check_json_schemas.py "$(dirname "$hadal")/sample_grammars" tiny
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
