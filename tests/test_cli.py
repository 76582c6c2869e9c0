"""The command line: info, the self-check, normalize from file to file; what all commands share."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib import metadata

import numpy as np
import pytest
from commands import UNMEASURED

import pyln
from pyln import _info, _normalize, _selfcheck
from pyln.__main__ import _parser, main


def test_selfcheck_passes(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert pyln.isa() in printed and "forward: largest error" in printed and "WRONG" not in printed


def test_selfcheck_fails_when_results_are_off(capsys, monkeypatch):
    exact = pyln.layer_norm

    def off(*args, **kwargs):
        result = exact(*args, **kwargs)
        return (result[0] * np.float32(1 + 1e-6), *result[1:]) if isinstance(result, tuple) else result

    monkeypatch.setattr(_selfcheck.pyln, "layer_norm", off)
    assert main([]) == 1
    assert "WRONG  forward" in capsys.readouterr().out


def save(path, array):
    np.save(path, array)
    return str(path)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)

    def write(name, shape, dtype="f4", order="C"):
        array = np.asarray(rng.standard_normal(shape).astype(dtype), order=order)
        return array, save(tmp_path / f"{name}.npy", array)

    return write


@pytest.mark.parametrize("block_bytes", [1, 4096, 1 << 24])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("axes", [{}, {"--last": 2}, {"--last": 3}, {"--axis": 0}, {"--axis": 1}, {"--axis": -1}])
def test_normalize(axes, dtype, order, block_bytes, files, tmp_path, monkeypatch):
    monkeypatch.setattr(_normalize, "BLOCK_BYTES", block_bytes)
    x, source = files("in", (5, 6, 70), dtype, order)
    (name, number), *_ = list(axes.items()) or [("--last", 1)]
    normalized = (number % 3,) if name == "--axis" else tuple(range(3 - number, 3))
    shape = tuple(x.shape[a] for a in normalized)
    weight, weight_file = files("w", shape, dtype)
    bias, bias_file = files("b", shape, dtype)
    target = tmp_path / "out.npy"
    options = [str(v) for pair in axes.items() for v in pair]
    options += ["--weight", weight_file, "--bias", bias_file, "--eps", "0.01"]
    assert main(["normalize", source, str(target), *options]) == 0
    y = np.load(target)
    assert y.dtype == x.dtype and y.flags.f_contiguous == (order == "F")
    expected = pyln.layer_norm(x, None, weight, bias, 0.01, axis=normalized)
    # In Fortran order with several axes the elements of a row come in another order, so sums round differently.
    np.testing.assert_allclose(y, expected, rtol=0, atol=(1e-5 if dtype == "f4" else 1e-13))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_normalize_gives_the_bits_of_layer_norm(dtype, files, tmp_path):
    x, source = files("in", (100, 768), dtype)
    assert main(["normalize", source, source]) == 0  # over itself
    assert np.load(source).tobytes() == pyln.layer_norm(x, 768).tobytes()
    assert sorted(os.listdir(tmp_path)) == ["in.npy"]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)])
def test_normalize_nothing(shape, files, tmp_path):
    _, source = files("in", shape)
    assert main(["normalize", source, str(tmp_path / "out.npy")]) == 0
    assert np.load(tmp_path / "out.npy").shape == shape


def test_refusals_leave_no_file(files, tmp_path, capsys):
    _, good = files("good", (4, 5))
    _, wrong_weight = files("wrong", (4,))
    integers = save(tmp_path / "int.npy", np.arange(6))
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([{}, "x"], dtype=object), allow_pickle=True)
    archive = tmp_path / "archive.npz"
    np.savez(archive, a=np.zeros(3))
    truncated = tmp_path / "truncated.npy"
    truncated.write_bytes((tmp_path / "good.npy").read_bytes()[:-8])
    text = tmp_path / "text.npy"
    text.write_text("not an array")
    target = tmp_path / "out.npy"
    before = set(os.listdir(tmp_path))
    for arguments, message in [
        ([good, str(target), "--axis", "2"], "axis: 2 is out of range"),
        ([good, str(target), "--last", "3"], "last: expected 1 to 2"),
        ([good, str(target), "--weight", wrong_weight], "Expected weight to be of same shape"),
        ([good, str(target), "--eps", "-1"], "eps: "),
        ([good, str(target), "--eps", "nan"], "eps: "),
        ([integers, str(target)], "input: expected float32, float64, float16 or bfloat16, got int64"),
        ([str(pickled), str(target)], "input: "),
        ([str(archive), str(target)], "several arrays"),
        ([str(truncated), str(target)], "input: "),
        ([str(text), str(target)], "input: "),
        ([str(tmp_path / "missing.npy"), str(target)], "No such file"),
        ([good, str(tmp_path / "no" / "folder.npy")], "No such folder"),
    ]:
        assert main(["normalize", *arguments]) == 1, arguments
        assert message in capsys.readouterr().err
        assert set(os.listdir(tmp_path)) == before


def test_usage_errors():
    for arguments in (["normalize"], ["normalise"], ["normalize", "a", "b", "--axis", "1", "--last", "1"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)


@pytest.fixture
def _handlers():
    """Undo what the command does to signals."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


INTERRUPTIONS = pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


@INTERRUPTIONS
@pytest.mark.usefixtures("_handlers")
def test_signals_say_how_the_command_ends(number, status, monkeypatch):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    monkeypatch.setattr(_normalize, "normalize_file", lambda *_, **__: signal.raise_signal(number))
    with pytest.raises(SystemExit) as caught:
        sys.exit(main(["normalize", "in.npy", "out.npy"]))
    assert caught.value.code == status


@INTERRUPTIONS
def test_an_interrupted_run_leaves_no_file(number, status, tmp_path):
    source, target = tmp_path / "in.npy", tmp_path / "out.npy"
    np.save(source, np.zeros((1 << 13, 1 << 13), "f4"))  # 256 MiB, in many small blocks
    script = (
        "import sys; from pyln import _normalize; from pyln.__main__ import main; _normalize.BLOCK_BYTES = 1 << 12;"
        "sys.exit(main(['normalize', *sys.argv[1:]]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, source, target], env={**os.environ, **UNMEASURED}, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".out.npy.*.part")) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(60) == status
    assert os.listdir(tmp_path) == ["in.npy"]


def test_a_failed_write_keeps_the_old_output(files, tmp_path, monkeypatch, capsys):
    _, source = files("in", (64, 64))
    target = tmp_path / "out.npy"
    target.write_text("precious")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert main(["normalize", source, str(target)]) == 1
    assert "No space left" in capsys.readouterr().err
    assert target.read_text() == "precious" and len(os.listdir(tmp_path)) == 2


def command(*arguments, **environment):
    """Run the command line in a process of its own; a terminal is what it does not have."""
    return subprocess.run(
        [sys.executable, "-m", "pyln", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def on_a_terminal(*arguments, **environment):
    """What it writes to a terminal."""
    pty = pytest.importorskip("pty", reason="a terminal is made by the module pty, which Windows lacks")
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    done = subprocess.run(
        [sys.executable, "-m", "pyln", *arguments], env={**clean, "TERM": "xterm", **environment}, stdout=theirs
    )
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # Linux's way to say that the other side is closed
        while part := os.read(ours, 1 << 16):
            written += part
    os.close(ours)
    assert done.returncode == 0
    return written.decode()


def test_info(capsys):
    assert main(["info", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["pyln"] == pyln.__version__ and told["numpy"] == np.__version__
    assert told["instruction_sets"]["in_use"] == pyln.isa()
    assert told["instruction_sets"]["available"] == pyln.available_isas()
    assert told["threads"] == pyln.get_num_threads() >= 1 and told["cpus"] >= 1
    installed = {name: version for name, version in told["optional"].items() if version}
    assert "ml_dtypes" in told["optional"]
    assert installed == {name: metadata.version(name) for name in installed}
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    for part in (pyln.__version__, f"{pyln.isa()} (in use)", *installed, told["machine"]["cpu"]):
        assert part in printed


def test_info_tells_how_it_was_built(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(_info._core, "__file__", str(tmp_path / "_core.abi3.so"))
    assert main(["info"]) == 0 and "Build              unknown" in capsys.readouterr().out
    told = {"compiler": "cc 1.2", "flags": ["-O3", "-x"], "python": "3.14", "limited_api": "3.11", "platform": "any"}
    (tmp_path / "_build.json").write_text(json.dumps(told))
    assert main(["info"]) == 0 and "cc 1.2; -O3 -x; for CPython 3.11 and later" in capsys.readouterr().out
    (tmp_path / "_build.json").write_text(json.dumps({**told, "limited_api": None}))
    assert main(["info"]) == 0 and "for CPython 3.14 without the GIL" in capsys.readouterr().out


def test_info_names_what_is_not_installed(capsys, monkeypatch):
    required = ["numpy>=2", 'no-such_package[x]>=3; extra == "some"', 'numpy; extra == "some"']
    monkeypatch.setattr(_info.metadata, "requires", lambda name: required)
    assert main(["info", "--json"]) == 0
    optional = json.loads(capsys.readouterr().out)["optional"]
    assert optional == {"no-such_package": None, "numpy": np.__version__}
    assert main(["info"]) == 0 and 'no-such_package: pip install "pyln[all]"' in capsys.readouterr().out


def test_info_says_why_the_instruction_set_is_in_use():
    told = [
        json.loads(command("info", "--json", LNORM_ISA=isa).stdout)["instruction_sets"] for isa in ("scalar", "sse9")
    ]
    assert told[0]["in_use"] == "scalar" and told[0]["reason"] == "LNORM_ISA=scalar asks for it"
    assert told[1]["in_use"] is None and "'sse9' is not an instruction set of this machine" in told[1]["reason"]


def test_check_as_json(capsys, tmp_path):
    assert main(["check", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["passed"] and told["isa"] == pyln.isa() and min(told["speed"].values()) > 0
    assert [check["what"].partition(":")[0] for check in told["checks"]] == [
        *("forward", "backward"),
        *(name for name in pyln.available_isas() if name != pyln.isa()),
    ]
    assert all(check["passed"] and check["error"] <= check["allowed"] for check in told["checks"][:2])
    file = tmp_path / "check.json"
    assert main(["check", "--json", str(file)]) == 0
    assert "forward: largest error" in capsys.readouterr().out and json.loads(file.read_text())["passed"]


def test_bench_as_json():
    done = command("bench", "--json", "--seconds", "0.1", "--shape", "3x65", "--peers", "none")
    assert done.returncode == 0 and "3 x 65" in done.stderr
    assert [case["rows"] for case in json.loads(done.stdout)["cases"]] == [3, 3]


def test_colours_where_a_terminal_is():
    assert "\033[32mok" in on_a_terminal("check")
    assert "\033[" in on_a_terminal("info")
    for way in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\033" not in on_a_terminal("info", **way)
    assert "\033" not in command("info", TERM="xterm").stdout
    assert "\033" not in on_a_terminal("info", "--json")


def test_help_teaches_each_command():
    for arguments in ([], ["info"], ["check"], ["normalize"], ["bench"]):
        told = command(*arguments, "--help").stdout
        examples = told.partition("examples:\n")[2].partition("\n\n")[0].splitlines()
        assert len(examples) >= 2 and all("python -m pyln" in line for line in examples)
        assert max(map(len, examples)) <= 120


def test_examples_of_help_are_commands():
    """Each parses, as far as its own command goes."""
    for name in ("", "info", "check", "normalize", "bench"):
        told = command(*name.split(), "--help").stdout.partition("examples:\n")[2].partition("\n\n")[0]
        for line in told.splitlines():
            words = line.partition("python -m pyln")[2].split("  ")[0].partition("|")[0].split()
            _parser().parse_args(words)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "--json", "{tmp}/no/x.json"], "--json: cannot write {tmp}/no/x.json: No such file or directory"),
        (["bench", "--from", "{tmp}/no.json"], "--from: cannot read {tmp}/no.json: No such file or directory"),
        (["bench", "--from", "{tmp}/text"], "--from: expected the JSON that --json writes"),
        (["normalize", "{tmp}/no.npy", "{tmp}/y.npy"], "input: cannot read {tmp}/no.npy: No such file or directory"),
        (["normalize", "{tmp}/x.npy", "{tmp}/no/y.npy"], "output: cannot write {tmp}/no/y.npy: No such folder"),
        (["normalize", "{tmp}/x.npy", "{tmp}/y.npy", "--bias", "{tmp}/b"], "bias: cannot read {tmp}/b: No such file"),
    ],
)
def test_errors_name_the_argument(arguments, message, tmp_path, capsys):
    (tmp_path / "text").write_text("text")
    np.save(tmp_path / "x.npy", np.zeros((2, 3), "f4"))
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 1
    assert f"error: {message.format(tmp=tmp_path)}" in capsys.readouterr().err


def test_a_picture_without_matplotlib(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "pyln._bench.plot", raising=False)
    monkeypatch.delattr("pyln._bench.plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["bench", "--plot", "x.svg"]) == 1
    assert (
        'error: --plot: needs matplotlib, which is not installed: pip install "pyln[bench]"' in capsys.readouterr().err
    )


def test_output_that_nobody_reads_on():
    with subprocess.Popen(
        [sys.executable, "-m", "pyln", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(60) == 1


def test_where_places_on_the_disk_cannot_be_taken(files, tmp_path, monkeypatch):
    """As on macOS and Windows, where zeros are written first."""
    x, source = files("in", (64, 64))
    memmap = np.memmap

    def mapped(file, dtype, mode, offset, size):
        assert os.fstat(file.fileno()).st_size == offset + x.nbytes
        return memmap(file, dtype, mode, offset, size)

    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.setattr(np, "memmap", mapped)
    monkeypatch.setattr(_normalize, "BLOCK_BYTES", 3000)
    assert main(["normalize", source, str(tmp_path / "out.npy")]) == 0
    assert np.load(tmp_path / "out.npy").tobytes() == pyln.layer_norm(x, 64).tobytes()


def test_info_without_metadata(monkeypatch):
    """As of a checkout whose compiled part was built in place."""

    def requires(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert _info.gather()["optional"] == {}
