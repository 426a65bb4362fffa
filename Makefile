# ctctl: everything a developer types. `make demo` and `make test` are enough by themselves on a
# fresh Debian 12, as root; each installs what it needs.

SHELL := /bin/bash
.DEFAULT_GOAL := help

CLANG   ?= clang-19
PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin

# ---- BPF ---------------------------------------------------------------------
BPF_OUT  := ctctl/bpf
BPF_SRC  := $(wildcard bpf/*.bpf.c)
BPF_OBJ  := $(patsubst bpf/%.bpf.c,$(BPF_OUT)/%.bpf.o,$(BPF_SRC))
BPF_DEPS := $(wildcard bpf/include/ctctl/*.h bpf/lib/*.h)
MULTIARCH := $(shell gcc -print-multiarch 2>/dev/null || echo x86_64-linux-gnu)
BPF_CFLAGS := -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -Ibpf/include -Ibpf/lib -I/usr/include/$(MULTIARCH)

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

.PHONY: bpf
bpf: $(BPF_OBJ) ## compile the BPF objects into the package

$(BPF_OUT)/%.bpf.o: bpf/%.bpf.c $(BPF_DEPS) Makefile
	@mkdir -p $(BPF_OUT)
	$(CLANG) $(BPF_CFLAGS) -c $< -o $@.tmp && mv $@.tmp $@
