#!/usr/bin/env bash
# What three analyzers see in the C library: nothing, or it fails. The algorithms are the same text for every instruction
# set, so they are read once, for scalar; what is of AVX2 alone is read by cppcheck.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install_debian.sh gcc clang-tidy-19 cppcheck

sources="lnorm dispatch merge cpu small isa_scalar"
flags="-std=c11 -Iinclude -DLNORM_WITHOUT_AVX512=1 -DLNORM_WITHOUT_AVX2=1"
bound="-Xclang -analyzer-config -Xclang max-nodes=40000" # of clang-analyzer's paths through a function
of() { [ "$1" = small ] && echo "$flags -DLNORM_SMALL=1" || echo "$flags"; }

for source in $sources; do
    echo "clang-tidy, gcc -fanalyzer: $source"
    # shellcheck disable=SC2046
    clang-tidy-19 --quiet "src/c/$source.c" -- $(of "$source") $bound 2>/dev/null
    # shellcheck disable=SC2046
    [ "$source" = isa_scalar ] || gcc -O1 -fanalyzer -Werror $(of "$source") -c "src/c/$source.c" -o /dev/null
done

echo "cppcheck"
# It takes an array that is handed on to be filled for one that is read; what is not written, the target msan of check.py
# and valgrind see.
cppcheck --quiet --std=c11 --enable=warning,portability,performance --error-exitcode=1 \
    --suppress=uninitvar --suppress=ctuuninitvar --suppress=legacyUninitvar \
    -Iinclude -D__x86_64__ -D__GNUC__ -D__STDC_HOSTED__=1 -DLNORM_WITHOUT_AVX512=1 src/c include
