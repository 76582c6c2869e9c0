"""The calls of test_fuzz.py, led by what they reach in pyln's Python code: python tests/fuzz/fuzz_py.py [CORPUS...].

Takes libFuzzer's options, such as -max_total_time=300. Needs atheris: pip install atheris.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

with atheris.instrument_imports(include=["pyln"]):
    import pyln  # noqa: F401

import hypothesis.strategies as st  # noqa: E402
from hypothesis import given  # noqa: E402
from test_fuzz import FUNCTIONS, fuzz  # noqa: E402


@given(st.sampled_from(sorted(FUNCTIONS)), st.data())
def once(name, data):
    """One call of one function."""
    fuzz(data.draw, name)


# Hypothesis draws nothing from short inputs.
atheris.Setup([sys.argv[0], "-max_len=4096", "-len_control=0", *sys.argv[1:]], once.hypothesis.fuzz_one_input)
atheris.Fuzz()
