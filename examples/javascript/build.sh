#!/bin/sh
# lnorm as WebAssembly, by Zig's compiler (pip install ziglang==0.17.1): build.sh [--small] [FILE.wasm [SWITCH...]]
#
# The module imports nothing, and exports what lnorm.h declares and __heap_base, from where on the memory is the caller's.
# Its size, that after gzip -9, and the instructions of lnorm_forward_f32 and lnorm_backward_f32 per element of 64 rows of
# 768, as wasmtime counts them (its fuel):
#
#     -Os -msimd128    224.5 kB    69.6 kB    286     721    what is taken where no switches are given
#     -O2 -msimd128    428.0 kB   149.0 kB    162     452
#     -Os              223.1 kB    68.8 kB    406    1068    for engines without vectors
#     --small            6.5 kB     3.2 kB    377            lnorm_forward_f32 and its 8-bit output alone
set -eu
here=$(cd "$(dirname "$0")" && pwd)
sources="$here/../../src/c/*.c"
small=
if [ "${1-}" = --small ]; then
    sources="$here/../../src/c/small.c"
    small=-DLNORM_SMALL
    shift
fi
output=${1:-$here/lnorm.wasm}
[ $# = 0 ] || shift
[ $# != 0 ] || set -- -Os -msimd128
# shellcheck disable=SC2086
exec "${PYTHON:-python3}" -m ziglang cc -target wasm32-wasi -mexec-model=reactor "$@" $small \
    -std=c11 -ffp-contract=off -fno-math-errno -fvisibility=hidden -Wl,--export-dynamic,--export=__heap_base,--strip-all \
    -I"$here/../../include" -include "$here/no_environment.h" $sources -o "$output"
