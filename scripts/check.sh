#!/bin/sh
# lnorm_check and its neighbours on other machines: see check.py.
exec python3 "$(dirname "$0")/check.py" "$@"
