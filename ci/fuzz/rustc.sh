#!/bin/sh
# A compiler for the crates of this workspace alone (cargo's RUSTC_WORKSPACE_WRAPPER): adds the edge counters and traced
# comparisons that guide libFuzzer, by code generation flags that the stable compiler takes. Build scripts and
# procedural macros are left alone: they run without the fuzzer, which defines what the counters call.
set -eu
rustc=$1
shift
previous=
for word in "$@"; do
    case "$previous $word" in
    *" build_script_"* | "--crate-type proc-macro") exec "$rustc" "$@" ;;
    esac
    previous=$word
done
exec "$rustc" "$@" --cfg fuzzing -Copt-level=2 -Ccodegen-units=8 \
    -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
