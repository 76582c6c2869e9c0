#!/usr/bin/env bash
# Tests of pyln with its compiled part under AddressSanitizer and UBSan: scripts/asan_python.sh [PYTEST_ARGUMENTS].
# Needs what tests/requirements.txt names in the Python that runs it; builds into an environment of its own, with CFLAGS
# too: with -DLNORM_WITHOUT_AVX2=1 -DLNORM_WITHOUT_AVX512=1, whose kernels the C tests look at, in a fraction of the time.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=${ASAN_ENVIRONMENT:-$PWD/build/asan_python}
[ $# -gt 0 ] || set -- tests/test_{fast_path,arguments,layouts,types,options,residual,groups,quantize,building_blocks}.py \
    tests/test_{exporters,fuzz,threads,files}.py

python3 -m venv --clear --without-pip "$environment"
site=$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
python3 -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' >"$site/lent.pth"
CC=gcc LDSHARED="gcc -shared" CFLAGS="-O1 -g1 ${CFLAGS:-} -fsanitize=address,undefined -fno-sanitize-recover=undefined" \
    LDFLAGS="-fsanitize=address,undefined" python3 -m pip install -q --no-deps --target "$site" --upgrade .

# CPython keeps some of its memory until its end, which is no leak.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONSAFEPATH=1 PYTHONMALLOC=malloc
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so.6)" \
    "$environment/bin/python" -m pytest -p no:cacheprovider --numprocesses="$(nproc)" "$@"
