"""The bench: its loops in C compute what they claim, each peer is measured on the same, and the report is whole."""

import json
import os
import platform
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

import pyln
from pyln.__main__ import main
from pyln._bench import _loops, cases, machine, onednn, operations, peers, plot, report, run
from pyln._bench.timing import Subject, measure, pinned

SHAPES = [(1, 1), (3, 20), (2, 64), (5, 65), (4, 301), (7, 1000)]
# tests/requirements.txt installs all peers that there are for the machine.
HAS_ONEDNN = sys.platform == "linux" and platform.machine() == "x86_64"
DOCUMENTED = {"format", "pyln", "date", "machine", "versions", "settings", "cases", "threads", "summary"}


@pytest.fixture(params=["dense", "strided"])
def layout(request):
    return request.param


@pytest.fixture(params=["f32", "f64"])
def type_name(request):
    return request.param


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_limits_copy_and_add(shape, type_name, layout, isa):
    data = cases.Data(shape, cases.Settings(type_name, layout, offset=8))
    for way, expected, out in (("forward", data.x, data.y), ("backward", data.dy + data.x, data.dx)):
        if layout == "strided":
            out.base[...] = 0
        out.fill(np.nan)
        _loops.repeat_limit(data.operands, way, isa, 2)
        np.testing.assert_array_equal(out, expected)


def test_limits_stay_inside_their_rows(type_name, isa):
    """The other half of each row, and what follows the last, is not theirs."""
    dtype = cases.TYPES[type_name]
    wide = np.full((6, 2 * 77), 5, dtype)
    given, out = np.arange(5 * 77, dtype=dtype).reshape(5, 77), wide[:5, :77]
    x, dy = (np.tile(given, (1, 2))[:, :77] for _ in range(2))
    nothing = dict.fromkeys(("gamma", "beta", "dgamma", "dbeta"))
    statistics = dict.fromkeys(("mean", "rstd", "workspace"), np.empty(5, dtype))
    operands = _loops.Operands(type_name, 5, 77, 154, 0.0, x=x, dy=dy, y=out, dx=out, **nothing, **statistics)
    for way, times in (("forward", 1), ("backward", 2)):
        _loops.repeat_limit(operands, way, isa, 1)
        np.testing.assert_array_equal(out, times * given)
        assert (wide[:, 77:] == 5).all() and (wide[5] == 5).all()


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("way", cases.DIRECTIONS)
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_plain_loops_agree_with_pyln(shape, way, affine, type_name, layout):
    data = cases.Data(shape, cases.Settings(type_name, layout, affine))
    data.spoil(way)
    _loops.repeat_plain(data.operands, way, 2)
    tolerance = {"f32": 2e-5, "f64": 1e-13}[type_name]
    for result, expected in zip(data.outputs(way), data.expected(way), strict=True):
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance * abs(expected).max())


@pytest.mark.parametrize("way", cases.DIRECTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_lnorm_in_a_loop_gives_the_bits_of_pyln(shape, way, type_name, layout, isa):
    data = cases.Data(shape, cases.Settings(type_name, layout))
    data.spoil(way)
    _loops.repeat_lnorm(data.operands, way, isa, 2)
    for result, expected in zip(data.outputs(way), data.expected(way), strict=True):
        np.testing.assert_array_equal(result, expected)


def test_unknown_instruction_set():
    data = cases.Data((2, 3), cases.Settings())
    for loop in (_loops.repeat_limit, _loops.repeat_lnorm):
        with pytest.raises(ValueError, match=r"instruction set|LNORM_ISA"):
            loop(data.operands, "forward", "nonsense", 1)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("way", cases.DIRECTIONS)
def test_parts_of_the_threaded_limit_are_the_whole(way, count, layout):
    data = cases.Data((9, 65), cases.Settings(layout=layout))
    data.spoil(way)
    for part in run._parts(data, count):
        _loops.repeat_limit(part, way, "scalar", 1)
    np.testing.assert_array_equal(data.outputs(way)[0], data.x if way == "forward" else data.dy + data.x)


class Broken:
    """Leaves the outputs as they were, or computes something else."""

    title, version = "broken", ""

    def __init__(self, change):
        self.change = change

    def call(self, data, direction):
        return peers.Call(lambda times: self.change(data), lambda: data.outputs(direction))


def also_without_dbeta(data):
    _loops.repeat_plain(data.operands, "backward", 1)
    data.dbeta[:] *= 1.1


@pytest.mark.parametrize(
    ("direction", "change"),
    [
        ("forward", lambda data: None),
        ("forward", lambda data: np.copyto(data.y, data.x)),
        ("backward", also_without_dbeta),
    ],
)
def test_nobody_is_timed_doing_something_else(direction, change):
    with pytest.raises(run.WrongResult, match=f"broken, {direction}, 4 x 65: off by"):
        run.run([(4, 65)], cases.Settings(), ["scalar"], {"broken": Broken(change)}, [direction], seconds=0)


def test_all_take_turns():
    """Each is first in some round; the median is that of its own samples."""
    order = []
    subjects = [Subject(name, "peer", partial(lambda name, times: order.append(name), name)) for name in "abc"]
    for subject in subjects:
        subject.calibrate = lambda: 1.0
    rounds = measure(subjects, 0)
    assert rounds == 5 and order == list("abcbcacababcbca")
    assert all(len(subject.seconds) == rounds for subject in subjects)


def bench(*arguments):
    """Run the command in a process of its own: it sets the environment of the libraries that it loads."""
    return subprocess.run(
        [sys.executable, "-m", "pyln", "bench", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def measured(tmp_path, *arguments):
    file = tmp_path / "bench.json"
    done = bench("--seconds", 0.1, "--json", file, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text()), done.stdout


def test_report_is_whole(tmp_path):
    shapes = [(3, 65), (40, 64)]
    options = [part for rows, cols in shapes for part in ("--shape", f"{rows}x{cols}")]
    found, printed = measured(tmp_path, *options, "--peers", "plain,numpy")
    assert set(found) == DOCUMENTED and found["format"] == 1
    assert found["settings"].keys() == {"type", "layout", "affine", "offset", "pinned"}
    assert [(case["direction"], case["rows"], case["cols"]) for case in found["cases"]] == [
        (direction, *shape) for direction in cases.DIRECTIONS for shape in shapes
    ]
    isas = pyln.available_isas()
    names = [f"limit {isa}" for isa in isas] + [f"lnorm {isa}" for isa in isas] + ["pyln", "plain C", "NumPy"]
    for case in found["cases"]:
        assert case.keys() == {"direction", "rows", "cols", "type", "bytes", "skipped", "times"}
        assert case["bytes"] == 4 * case["rows"] * case["cols"]
        assert [timed["name"] for timed in case["times"]] == names
        for timed in case["times"]:
            assert timed.keys() == {"name", "kind", "isa", "calls", "rounds", "seconds", "ratio"}
            for quartiles in (timed["seconds"], timed["ratio"]):
                assert len(quartiles) == 3 and 0 < quartiles[0] <= quartiles[1] <= quartiles[2]
            assert timed["kind"] != "limit" or timed["ratio"] == [1, 1, 1]
    assert set(found["summary"]["times_lnorm"]["backward"]) == {"pyln", "plain C", "NumPy"}
    for part in ("3 x 65", "forward, f32, one thread", "backward, f32, one thread", "geometric mean"):
        assert part in printed


@pytest.mark.parametrize("options", [(), ("--no-affine",), ("--layout", "strided"), ("--type", "f64", "--offset", "8")])
@pytest.mark.parametrize("name", [name for name in peers.KNOWN if name != "onednn" or HAS_ONEDNN])
def test_peers(name, options, tmp_path):
    """Each peer's results are compared with pyln's before it is timed."""
    found, printed = measured(tmp_path, "--shape", "5x65", "--isa", "scalar", "--peers", name, *options)
    for case in found["cases"]:
        took_part = [timed["name"] for timed in case["times"] if timed["kind"] in ("plain", "peer")]
        assert len(took_part) + len(case["skipped"]) == 1
        assert options or case["direction"] == "backward" or took_part
        assert all(f"{peer}, {case['direction']}: {why}" in printed for peer, why in case["skipped"].items())


def test_threads(tmp_path):
    found, printed = measured(tmp_path, "--shape", "8x32768", "--shape", "2x3", "--peers", "none", "--threads", 3)
    assert [(case["direction"], case["rows"]) for case in found["threads"]] == [("forward", 8), ("backward", 8)]
    for case in found["threads"]:
        assert [(timed["name"], timed["threads"]) for timed in case["times"]] == [
            (name, count) for name in ("limit", "pyln") for count in (1, 2, 3)
        ]
    assert "times as fast as with one thread" in printed


def test_pictures(tmp_path):
    options = ("--peers", "none", "--threads", 2, "--shape", "16x16384", "--shape", "16x65536", "--shape", "1x65536")
    _, before = measured(tmp_path, *options, "--plot", tmp_path / "all.png")
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    again = bench("--from", tmp_path / "bench.json", "--plot", tmp_path / "pictures")
    assert again.returncode == 0, again.stderr
    tables = slice(before.index("\nforward"), before.index("wrote"))
    assert before[tables] in again.stdout
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"size.svg", "cols.svg", "threads.svg"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--isa", "sse9"], "--isa: 'sse9' is not an instruction set of this machine: "),
        (["--peers", "torch,mkl"], "--peers: 'mkl' is not one of plain, onednn, "),
        (["--from", "{tmp}/missing.json"], "No such file"),
        (["--from", "{tmp}/other.json"], "--from: expected the JSON that --json writes"),
        (["--plot", "{tmp}/picture.doc"], "--plot: expected a folder, or a file that ends in .svg or .png"),
    ],
)
def test_refusals(options, message, tmp_path, capsys):
    (tmp_path / "other.json").write_text("{}")
    assert main(["bench", *(option.format(tmp=tmp_path) for option in options)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--shape", "3"], ["--shape", "0x3"], ["--threads", "0"], ["--offset", "3"]])
def test_usage_errors(options):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *options])


@pytest.fixture
def _here(monkeypatch):
    """Let the command run in this process: others may have loaded the libraries, whose threads it would set."""
    monkeypatch.setattr(peers, "one_thread_each", lambda: None)


@pytest.mark.usefixtures("_here")
def test_peers_that_are_not_installed(monkeypatch, capsys):
    absent = peers.Known(lambda: None, lambda: False, "other-package")
    monkeypatch.setattr(peers, "KNOWN", {"plain": peers.KNOWN["plain"], "other": absent})
    assert main(["bench", "--peers", "other"]) == 1
    assert "error: --peers: other is not installed: pip install other-package" in capsys.readouterr().err
    monkeypatch.setattr(cases, "full", lambda itemsize, last_cache: [(2, 3)])
    assert main(["bench", "--set", "full", "--isa", "scalar", "--seconds", "0.01", "--threads", "1"]) == 0
    printed = capsys.readouterr()
    assert 'not installed: other (pip install "pyln[bench]")' in printed.err and "2 x 3" in printed.out


@pytest.mark.usefixtures("_here")
def test_operations(monkeypatch, tmp_path):
    """What is timed beside each other computes the same."""
    for name, value in {"ROWS": 64, "COLS": 24, "IMAGES": (2, 32, 3, 4), "EXAMPLES": 4}.items():
        monkeypatch.setattr(operations, name, value)
    torch_threads = torch.get_num_threads()
    try:
        for operation in operations.operations():
            own = first(operation.pyln())
            expected = own.astype("f8")
            if operation.torch is not None:
                theirs = first(operation.torch()).double().numpy()
                np.testing.assert_allclose(theirs, expected, atol=0.05 if "16" in operation.name else 1e-5)
            if operation.steps is not None:
                own.fill(0)
                operation.steps()
                np.testing.assert_allclose(own, expected, atol=1 if own.dtype == "i1" else 1e-5)
        file = tmp_path / "bench.json"
        assert main(["bench", "--operations", "--seconds", "0.01", "--json", str(file)]) == 0
        assert main(["bench", "--operations", "--shape", "2x3"]) == 1
    finally:
        torch.set_num_threads(torch_threads)
    measured = json.loads(file.read_text())["operations"]
    assert len(measured) == 17 and all({"limit", "pyln"} <= line["seconds"].keys() for line in measured)


def first(result):
    return result[0] if isinstance(result, tuple) else result


def test_operations_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert operations._torch()("layer_norm") is None


@pytest.mark.skipif(not HAS_ONEDNN, reason="oneDNN is there for Linux on x86-64")
def test_what_onednn_refuses_is_no_result(monkeypatch):
    peer = onednn.OneDnn()
    with pytest.raises(peers.Declined, match=r"dnnl_engine_create returned [1-9]"):
        peer._create("dnnl_engine_create", onednn.c_int(99), onednn.c_int(0))
    monkeypatch.setattr(onednn._Version, "major", 2)
    with pytest.raises(ImportError, match="expected oneDNN 3, got 2"):
        onednn.OneDnn()


def test_without_onednn(monkeypatch):
    def files(name):
        raise onednn.PackageNotFoundError(name)

    monkeypatch.setattr(onednn, "files", files)
    monkeypatch.setattr(onednn.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(ImportError, match="oneDNN is not installed: pip install onednn-cpu-gomp"):
        onednn.OneDnn()


def test_machines_that_tell_little(monkeypatch, tmp_path):
    """As without Linux's files, or with a part of them."""
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path / path[1:])
    assert machine._cpu_model() and machine.describe()["caches"] == {}
    for index, size in enumerate(("32K\n", None, "1024K\n")):
        cache = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{index}"
        cache.mkdir(parents=True)
        for name, text in {"type": "Data\n", "level": f"{index + 1}\n", "size": size}.items():
            if text is not None:
                (cache / name).write_text(text)
    assert machine.describe()["caches"] == {"L1": 32 << 10, "L3": 1 << 20}
    assert machine.last_cache(machine.describe()) == 1 << 20
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pinned() as cpu:
        assert cpu is None


def test_who_is_slower_than_onednn():
    times = [{"name": "oneDNN"}]
    told = {"summary": {"times_lnorm": {}, "slower_than_onednn": []}, "cases": [{"times": times, "skipped": {}}]}
    assert "no shape is slower than oneDNN" in report.foot(told)
    told["summary"]["slower_than_onednn"] = [("forward", 5, 65, 1.5)]
    assert "slower than oneDNN: forward 5 x 65, 1.50 times its time" in report.foot(told)


def test_full_set_reaches_beyond_the_last_cache():
    for last_cache in (0, 32 << 20, 100 << 20):
        shapes = cases.full(4, last_cache)
        assert len(shapes) == len(set(shapes)) and {cols for _, cols in shapes} >= set(cases.FULL_COLS)
        largest = max(rows * cols * 4 for rows, cols in shapes if cols == 768)
        assert last_cache < largest <= 256 << 20


def test_numbers_are_readable():
    assert [report.duration(s) for s in (3.14159e-8, 9.999e-7, 2.5e-3, 1.5)] == ["31.4 ns", "1 us", "2.5 ms", "1.5 s"]
    assert report.ratio({"ratio": [1.0, 1.25, 1.5]}) == "1.25±20" and report.ratio(None) == "-"
    assert [plot._bytes(n) for n in (512, 2048, 3 << 20)] == ["512 B", "2 KiB", "3 MiB"]


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="--plot: nothing to draw"):
        plot.draw({"cases": [], "threads": []}, tmp_path)
