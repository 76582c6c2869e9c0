"""scripts/soak.py, for seconds: it runs, and notices one bit, and a child that hangs."""

import json
import sys

from commands import ROOT, UNMEASURED, run, run_script

START = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import soak
soak.SHAPES = [(2, 4, 3, 5)]
process = soak.Soak(soak.first_digests(), seed=0)
process.names = process.names[:20]
"""


def test_a_few_seconds():
    *_, last = run(sys.executable, ROOT / "scripts" / "soak.py", "--minutes", "0.02", **UNMEASURED).splitlines()
    figures = json.loads(last)
    assert figures["calls"] > 2000 and figures["forks"] > 5 and figures["elements"] > 10**7
    assert not figures["differences"] and not figures["crashed_or_hanging"]


def test_another_bit_is_noticed():
    script = """
assert process.run(end=0)["differences"] == []
name = process.names[7]
y, *others = process.cases[name][1]()
y.view("u1").ravel()[11] ^= 1
process.cases[name] = 1, lambda: (y, *others)
differences = process.run(end=0)["differences"]
assert name in differences and any("forked child" in difference for difference in differences), differences
"""
    run_script(START + script, ROOT / "scripts")


def test_a_child_that_hangs_is_noticed():
    script = """
soak.PATIENCE_S = 0.5
parent = os.getpid()
process.compare = lambda name: os.getpid() == parent or time.sleep(100)
differences = process.run(end=0)["differences"]
assert differences and all("a signal after 0.5 s and -6" in difference for difference in differences), differences
"""
    run_script(START + script, ROOT / "scripts")
