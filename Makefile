# ctctl: everything a developer types. `make demo` and `make test` are enough by themselves on a
# fresh Debian 12, as root; each installs what it needs.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The one place that pins the compiler; its output is what the wheel carries.
CLANG   ?= clang-19
PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

# ---- BPF ---------------------------------------------------------------------
BPF_OUT  := ctctl/bpf
BPF_SRC  := $(wildcard bpf/*.bpf.c)
BPF_OBJ  := $(patsubst bpf/%.bpf.c,$(BPF_OUT)/%.bpf.o,$(BPF_SRC))
BPF_DEPS := $(wildcard bpf/include/ctctl/*.h bpf/lib/*.h)
MULTIARCH := $(shell gcc -print-multiarch 2>/dev/null || echo x86_64-linux-gnu)
BPF_CFLAGS := -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -ffile-prefix-map=$(CURDIR)=. -Ibpf/include -Ibpf/lib -I/usr/include/$(MULTIARCH)

.PHONY: bpf
bpf: $(BPF_OBJ) native ## compile the BPF objects (and the row formatter) into the package

# The native code of user space: the loops behind every listing (native/rows.c) and every text read (native/lines.c).
NATIVE  := ctctl/native/rows.so
NATIVE_SRC := native/rows.c native/lines.c
CC      ?= gcc

.PHONY: native
native: $(NATIVE) ## compile the row formatter into the package

# A number that changes with the enums, structures and functions by which it is called; ctctl/_ffi/rows.py has it too.
INTERFACE = $(word 1,$(shell sed -n '/^enum .*{/,/^}/p; /^struct .*{/,/^}/p; /^[a-z].*ctctl_/p' $(NATIVE_SRC) | cksum))

$(NATIVE): $(NATIVE_SRC) native/hash.h Makefile
	@mkdir -p $(@D)
	$(CC) -O3 -g -Wall -Wextra -Werror -DINTERFACE=$(INTERFACE)u -fPIC -shared -o $@.tmp $(NATIVE_SRC) && mv $@.tmp $@

# The same with every access checked, under the tests that write each field of random entries.
ASAN := build/asan/rows.so

.PHONY: native-asan
native-asan: setup ## the row formatter's tests with address and undefined behaviour sanitizers
	@mkdir -p $(dir $(ASAN))
	$(CC) -O1 -g -Wall -Wextra -Werror -DINTERFACE=$(INTERFACE)u -fPIC -shared -fsanitize=address,undefined -fno-sanitize-recover=undefined -o $(ASAN) $(NATIVE_SRC)
	ROWS_LIBRARY=$(ASAN) PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
	  LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	  $(BIN)/pytest -q -p tests.support.rows_library tests/unit/test_rowform.py tests/unit/test_regular.py

.PHONY: abi
abi: ## generate ctctl/abi/layouts.py and constants.py from bpf/include/ctctl/abi.h
	$(BIN)/python tools/gen_abi.py --clang $(CLANG)

# IPv6's text is IPv4's, which it includes.
$(filter %6.bpf.o,$(BPF_OBJ)): $(BPF_OUT)/%6.bpf.o: bpf/%.bpf.c

$(BPF_OUT)/%.bpf.o: bpf/%.bpf.c $(BPF_DEPS) Makefile
	@mkdir -p $(BPF_OUT)
	$(CLANG) $(BPF_CFLAGS) -c $< -o $@.tmp && mv $@.tmp $@

# ---- what the machine needs -----------------------------------------------------
# libbpf at run time; a compiler, headers and bpftool to build and to check; ordinary programs for
# the lab's traffic.
APT := clang-19 llvm-19 gcc make libc6-dev libbpf1 libbpf-dev libelf1 linux-libc-dev bpftool \
       python3 python3-venv iproute2 ethtool iputils-ping curl iperf3 socat netcat-openbsd tcpdump kmod
APT_STAMP := build/.apt
# What only tests need: a browser that looks at the report, the shells that complete.
APT_TEST := chromium strace zsh fish conntrack
APT_TEST_STAMP := build/.apt-test

# What only a release needs: a compiler for the other machine.
APT_DIST := gcc-aarch64-linux-gnu libc6-dev-arm64-cross
APT_DIST_STAMP := build/.apt-dist

$(APT_TEST_STAMP): APT := $(APT_TEST)
$(APT_DIST_STAMP): APT := $(APT_DIST)
$(APT_STAMP) $(APT_TEST_STAMP) $(APT_DIST_STAMP): Makefile
	@mkdir -p build
	@missing=""; for p in $(APT); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q '^install ok' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	  echo "installing:$$missing"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
	@touch $@

$(BIN)/ctctl: pyproject.toml hatch_build.py packaging/ctctl | $(APT_STAMP)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(MAKE) --no-print-directory bpf
	$(BIN)/pip install -qq --disable-pip-version-check -e '.[dev]'
	@touch $@

.PHONY: setup
setup: $(APT_STAMP) $(BIN)/ctctl ## install what is missing, build, make .venv with ctctl in it
	@$(MAKE) --no-print-directory bpf
	@$(BIN)/python -m compileall -q ctctl   # as pip does for a wheel: what is not compiled is at every start

# ---- the two commands --------------------------------------------------------------
.PHONY: demo
demo: setup ## bring up the lab, send real traffic, show tables, a trace and a GC preview, tear down
	@CTCTL=$(BIN)/ctctl tools/demo.sh

.PHONY: test
test: setup $(APT_TEST_STAMP) lint ## everything: lint, types, import contracts, all tests with real kernel parts
	CTCTL_REQUIRE_KERNEL=$${CTCTL_REQUIRE_KERNEL-} tools/run_tests.sh $(TESTS)

.PHONY: fuzz-readers
fuzz-readers: setup ## a million inputs made of pieces of real ones, for every reader of files, filters, packets, YAML, captures, BTF
	$(BIN)/pip install -q --disable-pip-version-check -e '.[fuzz]'
	$(BIN)/python tests/bench/fuzz_readers.py --keep

.PHONY: test-hard
test-hard: setup ## the tests seven times: signals ignored, no terminal, four busy loops, files in other orders too
	tools/hard_test.sh

.PHONY: test-random
test-random: setup ## the tests of properties, with examples that no run has had: each that fails is to become an @example
	CTCTL_TEST_EXAMPLES=random $(BIN)/pytest -q $$(grep -rlE "^(from|import) hypothesis" tests --include='test_*.py')

.PHONY: mutants
mutants: setup ## plant small faults one at a time and count those that no test notices (an hour or two)
	$(BIN)/python tools/mutants.py

.PHONY: test-kernels
test-kernels: setup ## boot Linux 6.1, 6.12 and the newest of Debian in an emulator; writes docs/support-matrix.md
	tools/test_kernels.sh

.PHONY: test-spark
test-spark: setup ## every named question on DuckDB and on Spark, the answers compared; skipped without Java
	$(BIN)/pip install -q --disable-pip-version-check -e '.[spark]'
	$(BIN)/pytest -q -rs tests/spark

.PHONY: test-store
test-store: setup ## lakes in an object store: every question to a real S3 server (moto's, in an environment of its own)
	test -x build/moto/bin/moto_server || { $(PYTHON) -m venv build/moto; build/moto/bin/pip install -q --disable-pip-version-check 'moto[s3,server]'; }
	$(BIN)/pytest -q -rs tests/store

.PHONY: test-cluster
test-cluster: setup ## ctctl cluster against a real kube-apiserver, deploy/ against a real Prometheus; both made once from Debian
	tools/build_cluster.sh || echo "no control plane could be made: its tests are skipped"
	$(BIN)/pytest -q -rs tests/cluster

.PHONY: test-arm64
test-arm64: setup $(APT_DIST_STAMP) ## the arm64 wheel under emulation (qemu-user-static): what it lists is what this machine lists
	tools/try_arm64.sh

# What takes branches of the kernel's part and of what is below the layers that count, or runs in environments of its own:
# watched it would take an hour more and add nothing to the figure.
UNWATCHED := tests/dist tests/conformance tests/docs/test_demo.py tests/docs/test_first_change.py $(wildcard tests/kernel/test_bpf_*.py) \
             $(patsubst %,tests/kernel/test_%.py,agreement complexity floors lru_room map map_types object program ringbuf)

.PHONY: coverage
coverage: setup $(APT_TEST_STAMP) ## the tests with every line and branch watched (slow); fails under 90 % above the kernel's layers
	rm -rf build/coverage && install -d -m 1777 build/coverage   # commands write there as another user too
	COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml COVERAGE_FILE=$(CURDIR)/build/coverage/data \
	  PYTEST_ADDOPTS="$(UNWATCHED:%=--ignore=%)" tools/run_tests.sh $(TESTS) \
	  || echo "some failed: make test judges them, without the time that watching takes"
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

.PHONY: lint
lint: setup ## ruff, mypy strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: fuzz
fuzz: setup ## ten million random packets, both families and every mode, through every hook; the tables checked afterwards
	$(BIN)/python tests/bench/fuzz.py

.PHONY: soak
soak: setup ## an hour of traffic, GC, traces, metrics and other commands at once; nothing may grow or stay
	$(BIN)/python tests/bench/soak.py --out tests/bench/results/soak.json

# ---- generated files ----------------------------------------------------------------
.PHONY: completions
completions: setup ## regenerate completions/
	$(BIN)/ctctl completion bash > completions/ctctl.bash
	$(BIN)/ctctl completion zsh > completions/_ctctl
	$(BIN)/ctctl completion fish > completions/ctctl.fish

.PHONY: docs
docs: setup ## regenerate the references of commands and of words, and the man page
	$(BIN)/python tools/gen_docs.py

.PHONY: recordings
recordings: setup ## run anew what the pictures of the pages show, as root
	$(BIN)/python tools/record.py

# ---- releases ------------------------------------------------------------------------
.PHONY: dist
dist: $(APT_STAMP) $(APT_DIST_STAMP) ## build sdist, wheels for x86-64 and arm64, one executable file and a Debian package into dist/
	tools/dist.sh

.PHONY: image
image: ## the image of deploy/ by buildah, tried: a command of it is run (needs buildah and mmdebstrap)
	tools/image.sh

.PHONY: release
release: ## VERSION=X.Y.Z: version, changelog from changes/, commit, tag, everything of dist with checksums
	tools/release.sh $(VERSION)

.PHONY: site
site: ## build the documentation into build/site, strictly: a broken link is an error
	test -x build/site-venv/bin/zensical || { $(PYTHON) -m venv build/site-venv; build/site-venv/bin/pip install -qq --disable-pip-version-check zensical; }
	build/site-venv/bin/zensical build --strict -f mkdocs.yml

.PHONY: clean
clean: ## remove what was built
	rm -rf build dist $(BPF_OUT)/*.o $(NATIVE) .pytest_cache .mypy_cache .ruff_cache .hypothesis
