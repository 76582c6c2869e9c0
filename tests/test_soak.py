"""scripts/soak.py, for seconds: it runs, and notices one bit."""

import json
import os
import signal
import sys
import time

import pytest
from commands import ROOT, run

from pyln import _core


@pytest.fixture
def soak(monkeypatch, threads):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    before, isa = _core.set_thread_bytes(0, 0), _core.isa()
    yield __import__("soak")
    _core.set_thread_bytes(*before)
    _core.set_isa(isa)


def test_a_few_seconds():
    *_, last = run(sys.executable, ROOT / "scripts" / "soak.py", "--minutes", "0.02").splitlines()
    figures = json.loads(last)
    assert figures["calls"] > 2000 and figures["forks"] > 5 and figures["elements"] > 10**7
    assert not figures["differences"] and not figures["crashed_or_hanging"]


def test_another_bit_is_noticed(soak, monkeypatch):
    monkeypatch.setattr(soak, "SHAPES", [(2, 4, 3, 5)])
    process = soak.Soak(soak.first_digests(), seed=0)
    process.names = process.names[:20]
    assert process.run(end=0)["differences"] == []
    name = process.names[7]
    y, *others = process.cases[name][1]()
    y.view("u1").ravel()[11] ^= 1
    process.cases[name] = 1, lambda: (y, *others)
    differences = process.run(end=0)["differences"]
    assert name in differences and any("forked child" in difference for difference in differences)


def test_a_child_that_hangs_is_noticed(soak, monkeypatch):
    monkeypatch.setattr(soak, "SHAPES", [(2, 4, 3, 5)])
    monkeypatch.setattr(soak, "PATIENCE_S", 0.5)
    process = soak.Soak(soak.first_digests(), seed=0)
    process.names = process.names[:5]
    parent = os.getpid()

    def hang(name):
        if os.getpid() != parent:
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
            time.sleep(100)
        return True

    monkeypatch.setattr(process, "compare", hang)
    differences = process.run(end=0)["differences"]
    assert differences and all("a signal after 0.5 s and -6" in difference for difference in differences)
