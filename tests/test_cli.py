"""The command line: the self-check, and normalize from file to file."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import pyln
from pyln import _normalize, _selfcheck
from pyln.__main__ import main


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
        ([good, str(tmp_path / "no" / "folder.npy")], "No such file"),
    ]:
        assert main(["normalize", *arguments]) == 1, arguments
        assert message in capsys.readouterr().err
        assert set(os.listdir(tmp_path)) == before


def test_usage_errors():
    for arguments in (["normalize"], ["normalise"], ["normalize", "a", "b", "--axis", "1", "--last", "1"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_no_file(number, status, tmp_path):
    source, target = tmp_path / "in.npy", tmp_path / "out.npy"
    np.save(source, np.zeros((1 << 13, 1 << 13), "f4"))  # 256 MiB, in many small blocks
    script = (
        "import sys; from pyln import _normalize; from pyln.__main__ import main; _normalize.BLOCK_BYTES = 1 << 12;"
        "sys.exit(main(['normalize', *sys.argv[1:]]))"
    )
    with subprocess.Popen([sys.executable, "-c", script, source, target], stderr=subprocess.DEVNULL) as process:
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
