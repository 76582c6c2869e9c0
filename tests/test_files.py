"""Files as strangers send them, and as machines lose them: refused by name, nothing run or allocated, nothing lost."""

import errno
import io
import os
import pickle
import re
import stat
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, UNMEASURED, apart, run

import pyln
from pyln import _normalize
from pyln.__main__ import main

X = np.arange(20, dtype="f4").reshape(4, 5)
DATA = X.tobytes()


def npy(header, data=DATA, version=(1, 0), length=None):
    """A file with the header, whatever that is; by length it claims to be of another."""
    header = header if isinstance(header, bytes) else header.encode("latin1")
    size = struct.pack("<H" if version == (1, 0) else "<I", (len(header) if length is None else length) % 2**32)
    return b"\x93NUMPY" + bytes(version) + size + header + data


def header(descr="'<f4'", fortran="False", shape="(4, 5)"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}"


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def pickled():
    file = io.BytesIO()
    np.save(file, np.array([Bomb()], dtype=object), allow_pickle=True)
    return file.getvalue(), pickle.dumps(Bomb())


HOSTILE = {
    "empty": b"",
    "only magic": b"\x93NUMPY",
    "text": b"not an array",
    "pickle in npy": pickled()[0],
    "pickle": pickled()[1],
    "version 0": npy(header(), version=(0, 0)),
    "version 4": npy(header(), version=(4, 0)),
    "version 255": npy(header(), version=(255, 255)),
    "more than there is": npy(header(shape=f"({2**40},)")),
    "2**62 x 2": npy(header(shape=f"({2**62}, 2)")),
    "product of 2**64": npy(header(shape=f"({2**32}, {2**32})")),
    "product of 2**66, as a file of 20": npy(header(shape=f"({2**62}, 20)")),
    "more than 64 bits": npy(header(shape=f"({10**30},)")),
    "huge and none": npy(header(shape=f"(0, {2**62}, {2**62})")),
    "negative": npy(header(shape="(-4, 5)")),
    "two negatives": npy(header(shape="(-4, -5)")),
    "truth for a size": npy(header(shape="(True, True)"), b""),
    "fraction": npy(header(shape="(4.0, 5)")),
    "no tuple": npy(header(shape="20")),
    "70 dimensions": npy(header(shape=repr((1,) * 70))),
    "one byte less": npy(header(), DATA[:-1]),
    "no data": npy(header(), b""),
    "header of 4 GB": npy(header(), version=(2, 0), length=2**32 - 1),
    "header of nothing": npy(header(), length=0),
    "header cut off": npy(header(), length=10),
    "header into the data": npy(header(), length=len(header()) + 8),
    "header of 1 MB": npy(header() + " " * 2**20, version=(2, 0)),
    "header of 1 MB, 3": npy("(" * 2**20, version=(3, 0)),
    "nested": npy("(" * 5000 + ")" * 5000, version=(2, 0)),
    "signs": npy("-" * 9000 + "1", version=(2, 0)),
    "sums": npy(header(shape="(1" + "+1" * 4000 + ",)"), version=(2, 0)),
    "digits": npy(header(shape="(" + "9" * 8000 + ",)"), version=(2, 0)),
    "code": npy(header(shape="(__import__('os').mkdir('exploded'),)")),
    "code as type": npy(header(descr="__import__('os').mkdir('exploded')")),
    "not a literal": npy("import os"),
    "not closed": npy("{'descr': '''"),
    "list": npy("[1, 2]"),
    "no keys": npy("{}"),
    "other keys": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 5), 'more': 1}"),
    "key of a list": npy("{[]: 1}"),
    "NULs": npy(b"\0" * 64),
    "not Latin-1": npy(b"{'descr': '\xff\xfe', 'fortran_order': False, 'shape': (4, 5)}", version=(3, 0)),
    "order 2": npy(header(fortran="2")),
    "no type": npy(header(descr="'nothing'")),
    "type None": npy(header(descr="None")),
    "object": npy(header(descr="'|O'")),
    "bytes": npy(header(descr="'|S4'")),
    "strings": npy(header(descr="'<U1'")),
    "V4": npy(header(descr="'|V4'")),
    "2 GB for an element": npy(header(descr="'|V2147483647'", shape="()")),
    "0 bytes for an element": npy(header(descr="'|V0'", shape=f"({2**62},)")),
    "fields": npy(header(descr="[('a', '<f4')]")),
    "many fields": npy(header(descr=repr([(f"f{i}", "<f4") for i in range(400)])), version=(2, 0)),
    "array of arrays": npy(header(descr="('<f4', (5,))", shape="(4,)")),
    "array of 2**30": npy(header(descr=f"('<f4', ({2**29},))", shape="()")),
    "time": npy(header(descr="'<M8[s]'", shape="(10,)")),
    "complex": npy(header(descr="'<c8'", shape="(10,)")),
    "integers": npy(header(descr="'<i4'")),
    "other byte order": npy(header(descr="'>f4'" if sys.byteorder == "little" else "'<f4'")),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.save("old.npy", np.zeros(3))
    return tmp_path


def refused(capsys, *arguments):
    """Run normalize, which must refuse; what it says."""
    before = {name: os.lstat(name).st_mtime_ns for name in os.listdir()}
    assert main(["normalize", *map(str, arguments)]) == 1
    said = capsys.readouterr().err
    assert re.match(r"error: (input|output|weight|bias|axis|last|eps)\b", said), said
    assert len(said) < 1000 and {name: os.lstat(name).st_mtime_ns for name in os.listdir()} == before, said
    return said


@pytest.mark.parametrize("argument", ["input", "weight"])
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.filterwarnings("default")  # NumPy warns of some headers
def test_hostile_files(name, argument, folder, capsys):
    (folder / "hostile.npy").write_bytes(HOSTILE[name])
    given = ["hostile.npy", "old.npy"] if argument == "input" else ["x.npy", "old.npy", "--weight", "hostile.npy"]
    assert argument in refused(capsys, *given) and not (folder / "exploded").exists()


LIMITED = """
import resource, sys
from pyln.__main__ import main
resource.setrlimit(resource.RLIMIT_AS, (int(open("/proc/self/statm").read().split()[0]) * 4096 + (64 << 20),) * 2)
statuses = {main(["normalize", *line.split()]) for line in sys.stdin}
print(statuses)
"""


def test_refusals_take_no_memory(folder):
    """All of them in one process that gets 64 MiB, and cannot have the gigabytes that some ask for."""
    for i, content in enumerate(HOSTILE.values()):
        (folder / f"{i}.npy").write_bytes(content)
    with open("sparse.npy", "wb") as file:  # a whole one of 1 TiB, as a weight of another shape
        file.write(npy(header(shape=f"({2**38},)"), b""))
        file.truncate(2**40 + 200)
    lines = [f"{i}.npy out.npy\nx.npy out.npy --weight {i}.npy" for i in range(len(HOSTILE))]
    lines += ["x.npy out.npy --bias sparse.npy"]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], input="\n".join(lines), capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "{1}\n", done.stderr[-2000:]
    assert "memory" not in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: Expected bias to be of same shape")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (npy(header(), version=(2, 0)), X),
        (npy(header(), version=(3, 0)), X),
        (npy(header() + " " * 9000), X),
        (npy(header(), DATA + b"more"), X),
        (npy(header(fortran="True")), X.reshape(5, 4).T),
        (npy(header(shape="(20,)", fortran="True")), X.reshape(-1)),
    ],
)
def test_unusual_files_that_are_whole(content, expected, folder):
    (folder / "unusual.npy").write_bytes(content)
    assert main(["normalize", "unusual.npy", "out.npy"]) == 0
    np.testing.assert_allclose(np.load("out.npy"), pyln.layer_norm(expected, axis=-1), atol=1e-6)


@pytest.mark.parametrize("order", ["C", "F"])
def test_parameters_in_any_order(order, folder, rng):
    x, weight, bias = rng.standard_normal((3, 6, 7))
    np.save("in.npy", np.asarray(x, order=order))
    np.save("weight.npy", weight)
    np.save("bias.npy", np.asfortranarray(bias))
    options = ["--last", "2", "--weight", "weight.npy", "--bias", "bias.npy"]
    assert main(["normalize", "in.npy", "out.npy", *options]) == 0
    np.testing.assert_allclose(np.load("out.npy"), pyln.layer_norm(x, (6, 7), weight, bias), atol=1e-13)


@pytest.mark.parametrize("argument", ["input", "output", "weight", "bias"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "full", "socket", "loop"])
def test_what_is_no_file(kind, argument, folder, capsys):
    given = {"device": "/dev/zero", "full": "/dev/full", "folder": "sub"}.get(kind, kind)
    if kind == "pipe":
        os.mkfifo("pipe")
    elif kind == "folder":
        os.mkdir("sub")
    elif kind == "socket":
        os.mknod("socket", 0o600 | stat.S_IFSOCK)
    elif kind == "loop":
        os.symlink("loop", "loop")
    files = {"input": "x.npy", "output": "old.npy", argument: given}
    options = [word for name in ("weight", "bias") if name in files for word in (f"--{name}", files[name])]
    said = refused(capsys, files["input"], files["output"], *options)
    assert said.startswith(f"error: {argument}: cannot {'write' if argument == 'output' else 'read'} {given}: ")


def test_a_link_stays_a_link(folder):
    os.mkdir("sub")
    os.symlink("sub/real.npy", "link.npy")
    for _ in range(2):  # to nothing, and to a file
        assert main(["normalize", "x.npy", "link.npy"]) == 0
        assert os.readlink("link.npy") == "sub/real.npy" and os.listdir("sub") == ["real.npy"]
        np.testing.assert_array_equal(np.load("link.npy"), pyln.layer_norm(X, 5))
    os.symlink("x.npy", "to_x.npy")
    assert main(["normalize", "to_x.npy", "to_x.npy"]) == 0
    np.testing.assert_array_equal(np.load("x.npy"), pyln.layer_norm(X, 5))


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions(umask, folder):
    before = os.umask(umask)
    try:
        assert main(["normalize", "x.npy", "new.npy"]) == 0
        os.chmod("old.npy", 0o640)
        assert main(["normalize", "x.npy", "old.npy"]) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat("new.npy").st_mode) == 0o666 & ~umask
    assert stat.S_IMODE(os.stat("old.npy").st_mode) == 0o640


def test_a_long_name(folder):
    for name in ("x" * 251 + ".npy", "ü" * 125 + ".npy"):
        assert main(["normalize", "x.npy", name]) == 0
        assert np.load(name).shape == X.shape


@pytest.fixture
def as_nobody():
    """Permissions hold for the test, too, if root runs it; a folder where nobody is let in."""
    user = os.getuid()
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name), lambda: os.setresuid(*(2 * (user or 65534,)), user)
        os.setresuid(user, user, user)


def test_what_may_not_be_written(as_nobody, capsys):
    folder, drop = as_nobody
    np.save(folder / "x.npy", X)
    np.save(folder / "closed.npy", X)
    (folder / "closed.npy").chmod(0)
    (folder / "old.npy").write_text("precious")
    (folder / "old.npy").chmod(0o444)
    (folder / "sub").mkdir(mode=0o555)
    drop()
    for source, target, said in [
        ("x", "old", f"output: cannot write {folder}/old.npy"),
        ("x", "sub/new", f"output: cannot write {folder}/sub/new.npy"),
        ("closed", "old", f"input: cannot read {folder}/closed.npy"),
    ]:
        assert main(["normalize", f"{folder}/{source}.npy", f"{folder}/{target}.npy"]) == 1
        assert capsys.readouterr().err == f"error: {said}: Permission denied\n"
    assert (folder / "old.npy").read_text() == "precious"


def test_a_disk_that_is_too_small(folder):
    """As far as a process can have one: no file of it may be longer than the input's half."""
    np.save("long.npy", np.zeros((1000, 100)))
    script = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
runpy.run_module("pyln", run_name="__main__", alter_sys=True)
"""
    for name in ("old.npy", "new.npy"):
        done = subprocess.run(
            [sys.executable, "-c", script, "normalize", "long.npy", name],
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1 and done.stderr == f"error: output: cannot write {name}: File too large\n"
    assert sorted(os.listdir()) == ["long.npy", "old.npy", "x.npy"] and np.load("old.npy").shape == (3,)


def test_a_full_disk(folder):
    if not (own_mounts := apart("mount")):
        pytest.skip("needs to mount a small disk")
    os.mkdir("small")
    np.save("long.npy", np.zeros((1000, 100)))
    script = """mount -t tmpfs -o size=256k none small || exit 9
        echo precious >small/out.npy
        "$0" -m pyln normalize long.npy small/out.npy
        echo "status $?"
        ls -A small
        cat small/out.npy"""
    done = subprocess.run([*own_mounts, "sh", "-c", script, sys.executable], capture_output=True, text=True)
    assert done.stderr == "error: output: cannot write small/out.npy: No space left on device\n"
    assert done.stdout == "status 1\nout.npy\nprecious\n"


@pytest.mark.parametrize("how", ["shorter", "longer", "touched"])
def test_an_input_that_changes(how, folder, monkeypatch, capsys):
    np.save("long.npy", np.zeros((1000, 100)))
    monkeypatch.setattr(_normalize, "BLOCK_BYTES", 1 << 12)
    exact, calls = _normalize.layer_norm, []

    def meddling(*args, **kwargs):
        calls.append(1)
        if len(calls) == 100:
            if how == "touched":
                os.utime("long.npy", (1, 1))
            else:
                os.truncate("long.npy", 200_000 if how == "shorter" else 2_000_000)
        return exact(*args, **kwargs)

    monkeypatch.setattr(_normalize, "layer_norm", meddling)
    assert main(["normalize", "long.npy", "old.npy"]) == 1
    said = "became shorter" if how == "shorter" else "changed"
    assert capsys.readouterr().err == f"error: input: long.npy {said} while it was read\n"
    assert sorted(os.listdir()) == ["long.npy", "old.npy", "x.npy"] and np.load("old.npy").shape == (3,)


def test_many_at_once_into_one_file(folder):
    """Each has a file of its own until it is whole, in threads of one process too."""
    errors = []

    def work():
        try:
            for _ in range(20):
                _normalize.normalize_file(folder / "x.npy", folder / "old.npy")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and sorted(os.listdir()) == ["old.npy", "x.npy"]
    np.testing.assert_array_equal(np.load("old.npy"), pyln.layer_norm(X, 5))


def test_out_of_memory(folder, monkeypatch, capsys):
    def none(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(_normalize, "layer_norm", none)
    assert main(["normalize", "x.npy", "old.npy"]) == 1 and capsys.readouterr().err == "error: out of memory\n"
    assert np.load("old.npy").shape == (3,)


def test_a_disk_that_fails(monkeypatch, tmp_path, capsys):
    class Failing(io.FileIO):
        def readinto(self, place):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "in.npy").write_bytes(npy(header()))
    monkeypatch.setattr(_normalize, "_open", lambda name, path: Failing(path))
    assert main(["normalize", str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]) == 1
    words = f"error: input: cannot read {tmp_path / 'in.npy'}: {os.strerror(errno.EIO)}\n"
    assert capsys.readouterr().err == words and not (tmp_path / "out.npy").exists()


def test_kills():
    """A few; python scripts/kill_loop.py has more."""
    told = run(sys.executable, ROOT / "scripts" / "kill_loop.py", "30", **UNMEASURED)
    assert sum(int(line.split()[0]) for line in told.splitlines()) == 30
