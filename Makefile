# Two commands: `make run` and `make test`. `make help` names the others.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

DEFAULT_MODEL := .models/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL  ?= $(or $(HADAL_MODEL),$(DEFAULT_MODEL))
PROMPT ?= Why is it dark at the bottom of the sea?
STAND_IN := --max-new 300 --repetition-penalty 1.1  # so small a model goes round in circles at times
FUZZ_SECONDS ?= 60
CTEST  ?=
HADAL  := build/bin/hadal
VENV   := .venv/bin/python
INSTALL := @tools/dev/install_packages.sh

export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell nproc)

.PHONY: help run test check lint lint-tools bench compare oracle venv golden fuzz asan tsan debug clang dist format generated model \
        abi aarch64 faults model-if-possible bench-peers distance peer server-checks packages-run packages-test packages-lint packages-clang packages-fuzz packages-oracle packages-aarch64 program release clean

help:
	@echo "make run       install what is missing, build, get the default model and ask it a question"
	@echo "               MODEL=path to a GGUF file or a folder of safetensors, PROMPT='your question'"
	@echo "make test      build, the quick lint and all tests; CTEST='-L golden' or CTEST='-R name' picks some"
	@echo "make check     a choice of tests under the sanitizers: parsers, session, engine, C library and server for addresses, what has threads for races"
	@echo "make program   build the program alone, build/bin/hadal        make release   build everything"
	@echo "make dist      one program that runs from any folder, with its licences: build-dist/hadal-….tar.gz"
	@echo
	@echo "make format    rewrite by clang-format and ruff                 make lint      the quick lint and clang-tidy (an hour)"
	@echo "make generated make the generated files again, those whose generators have their packages"
	@echo "make abi       write the dumps of the C library's interface and of the chip contract again, after something was appended"
	@echo "make faults    the conformance kit against a chip with faults to order: a table of what caught each"
	@echo "make asan      nearly all tests under the address and undefined-behaviour sanitizers;  make tsan   for races: hours"
	@echo "make debug     nearly all tests of a debug build;  make clang   all tests of a build by clang"
	@echo "make aarch64   build everything for 64-bit ARM, and a choice of tests of it under an emulator; Debian"
	@echo "make server-checks  hadal serve under attack, overload, kill -9 and 35,000 requests of soak, with the numbers that are promised: for an idle machine"
	@echo "make fuzz      every fuzzer for FUZZ_SECONDS ($(FUZZ_SECONDS)) seconds"
	@echo
	@echo "make bench     speed of MODEL on this machine                   make compare   the same beside llama.cpp"
	@echo "make bench-peers  the table of figures, beside llama.cpp and this machine's peaks; makes models of 24 GB in .models/bench once"
	@echo "               ROWS='qwen1.5b-q4_k_m/decode */load' picks some, ROWS=--list names them"
	@echo "make distance  how far MODEL's next tokens are from those of unrounded activations, beside llama.cpp's"
	@echo "make oracle    compare with transformers and the official tokenizers (fetches 300 MB of Python packages once)"
	@echo "make golden    WARNING: rewrites tests/golden, what all models are compared with; look at every line of the difference"
	@echo "make model     get the default model into .models               make venv      the Python packages of make oracle"
	@echo "make clean     remove the build folders"

# --- run

run: program $(if $(filter $(DEFAULT_MODEL),$(MODEL)),model)
ifeq ($(MODEL),$(DEFAULT_MODEL))
	@echo "This is a small stand-in. For a DeepSeek model: make run MODEL=path (a GGUF file or a folder of safetensors)"
endif
	@$(HADAL) run "$(MODEL)" "$$PROMPT" $(if $(filter $(DEFAULT_MODEL),$(MODEL)),$(STAND_IN)) < /dev/null
run: export PROMPT := $(PROMPT)

program: packages-run build/build.ninja
	@ninja -C build -n hadal | grep -q "no work to do" || cmake --build --preset release --target hadal

release: build/build.ninja
	@cmake --build --preset release

build/build.ninja: CMakeLists.txt CMakePresets.json | packages-run
	@mkdir -p build
	@cmake --preset release >build/configure.log 2>&1 || { cat build/configure.log; exit 1; }
	@touch $@

model: packages-run
	@python3 tools/dev/fetch_model.py .models >/dev/null

packages-run packages-test packages-lint packages-clang packages-fuzz packages-oracle packages-aarch64: packages-%:
	$(INSTALL) run $(filter-out run,$*)
	@python3 tools/dev/fetch_sources.py

# --- test

test: packages-test lint-tools release model-if-possible
	@python3 tools/dev/run_tests.py build $(CTEST)

# the checks of Python are skipped by name where ruff cannot be had
lint-tools: packages-test
	@tools/dev/make_venv.sh tools/dev/requirements.txt || echo "The checks of Python will be skipped."

# the tests with the real model are skipped by name where it cannot be had
model-if-possible: packages-run
	@python3 tools/dev/fetch_model.py .models >/dev/null || echo "The tests that need the default model will be skipped."

export ASAN_OPTIONS := detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS := print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS := halt_on_error=1:second_deadlock_stack=1

check: packages-run
	@cmake --preset asan >/dev/null
	@cmake --build --preset asan --target check_asan
	@cmake --preset tsan >/dev/null
	@cmake --build --preset tsan --target check_tsan
	@python3 tools/dev/run_tests.py build-asan -L asan -- build-tsan -L tsan

asan tsan debug clang: packages-run
	@cmake --preset $@ >/dev/null
	@cmake --build --preset $@
	@python3 tools/dev/run_tests.py build-$@ -LE '$(if $(filter clang,$@),lint,slow|lint)' $(CTEST)
clang: packages-clang

aarch64: packages-aarch64
	@tools/dev/make_sysroot.sh
	@cmake --preset aarch64 >/dev/null
	@cmake --build --preset aarch64
	@python3 tools/dev/run_tests.py build-aarch64 -L cross $(CTEST)

server-checks: program model
	tests/server/hostile.py $(HADAL) --n 2000
	tests/server/schemas.py $(HADAL) --broken 2000 --good 50000
	tests/server/keys.py $(HADAL)
	tests/server/bits.py $(HADAL) --prompts 64 --tokens 64
	tests/server/shutdown.py $(HADAL) --rounds 20
	tests/server/kill_loop.py $(HADAL) --rounds 20
	tests/server/overload.py $(HADAL) --clients 128 --slots 2 --seconds 60
	tests/server/patience.py $(HADAL)
	tests/server/soak.py $(HADAL) --requests 30000
	tests/server/soak.py $(HADAL) --requests 5000 --model $(DEFAULT_MODEL)

dist: packages-run
	@tools/dev/make_dist.sh build-dist

fuzz: packages-fuzz
	@cmake --preset fuzz >/dev/null
	@cmake --build --preset fuzz
	@tools/dev/run_fuzzers.sh build-fuzz/bin $(FUZZ_SECONDS)

# --- lint

format: lint-tools
	@git ls-files '*.cc' '*.h' '*.c' | xargs -r clang-format-19 -i
	@.venv/bin/ruff check --quiet --fix . ; .venv/bin/ruff format --quiet .

lint: lint-tools packages-lint build/build.ninja
	@python3 tools/dev/run_tests.py build -L lint
	@git ls-files 'src/*.cc' 'apps/*.cc' 'chips/*.cc' | xargs -r run-clang-tidy-19 -p build -quiet

abi: packages-test build/build.ninja
	@cmake --build --preset release --target libhadal chip_contract
	@python3 tests/api/check_abi.py build/lib/libhadal.so tests/api/libhadal.abi --write
	@python3 tests/api/check_abi.py build/tests/libchip_contract.so tests/api/chip_contract.abi --write

faults: packages-test release
	@python3 tools/check/faults.py build

generated:
	@$(firstword $(wildcard $(VENV)) python3) tools/dev/check_generated.py --write

# --- measure and compare

bench: program $(if $(filter $(DEFAULT_MODEL),$(MODEL)),model)
	@$(HADAL) bench "$(MODEL)"

venv: packages-oracle
	@tools/dev/make_venv.sh tools/oracle/requirements.txt

oracle: venv release model
	@tools/oracle/run_oracles.sh $(VENV) $(HADAL) $(DEFAULT_MODEL)

golden: venv
	@$(VENV) tools/generate/make_golden.py
	@$(VENV) tools/generate/make_adapters.py

peer: venv
	@CMAKE_ARGS=-DGGML_NATIVE=ON $(VENV) -m pip install -q --no-binary llama-cpp-python llama-cpp-python==0.3.36

compare: peer program $(if $(filter $(DEFAULT_MODEL),$(MODEL)),model)
	@$(VENV) bench/compare_llama_cpp.py $(HADAL) "$(MODEL)"

bench-peers: peer program
	@set -f; $(VENV) bench/peers.py $(HADAL) $(ROWS)

distance: peer program
	@$(VENV) bench/distance.py $(HADAL) "$(MODEL)"

clean:
	@rm -rf build build-*
