"""lnorm from other languages: the programs of examples/ that do the same by what each language has, and print the same.

Where a language cannot read lnorm.h, its declarations are compared with the recorded interface.
"""

import contextlib
import functools
import http.server
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from ctypes import c_float, sizeof
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from commands import ROOT, run

import pyln

EXAMPLES = ROOT / "examples"
HEADER = ROOT / "include" / "lnorm.h"
JAVASCRIPT = EXAMPLES / "javascript"
ZIG = (sys.executable, "-m", "ziglang")

needs_zig = pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="compiled by ziglang, of PyPI")
needs_node = pytest.mark.skipif(not shutil.which("node"), reason="run by node")
needs_chromium = pytest.mark.skipif(not shutil.which("chromium"), reason="the page needs a browser, chromium")


@pytest.fixture(scope="module")
def check() -> Callable[[str], None]:
    """Compare what a program printed with what all print."""
    x = np.float32([[1, 2, 3, 4], [10, 10, 10, 50]] * 32)
    dy = np.float32([[4, 1, 2, 3], [1, 2, 3, 4]] * 32) / 32
    weight, bias = np.float32([1, 1, 2, 2]), np.float32([0, 0, 0, 1])
    y, mean, rstd = pyln.layer_norm(x, 4, weight, bias, return_stats=True)
    gradients = pyln.layer_norm_backward(dy, x, 4, mean, rstd, weight)
    results = dict(zip(("y", "dx", "dgamma", "dbeta"), (y, *gradients), strict=True))
    results["RMS norm"] = pyln.rms_norm(x, 4, weight, eps=1e-5)
    numbers = [
        f"{row[0]:9.5f} {row[1]:9.5f} {row[2]:9.5f} {row[3]:9.5f}  {label}"
        for label, values in results.items()
        for row in values.reshape(-1, 4)[:2]
    ]
    assert numbers[0] == " -1.34164  -0.44721   0.89442   3.68327  y"

    def check(printed: str) -> None:
        *lines, refused, library = printed.splitlines()
        assert lines == numbers
        assert re.fullmatch(r"refused: eps must be .* \(status 8\)", refused)
        assert library == f"lnorm {pyln.__version__}, scalar"

    return check


def needs(*tools: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not all(map(shutil.which, tools)), reason=f"compiled or run by {' and '.join(tools)}")


def rust(prefix: Path, work: Path) -> list[str | Path]:
    link = ["-L", f"native={prefix / 'lib'}", "-l", "static=lnorm", "-l", "m"]
    source = EXAMPLES / "rust" / "layer_norm.rs"
    run("rustc", "--edition=2021", "-D", "warnings", *link, source, "-o", work / "layer_norm")
    return [work / "layer_norm"]


def go(prefix: Path, work: Path) -> list[str | Path]:
    environment = {"PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig"), "GOCACHE": str(work / "cache")}
    run("go", "build", "-o", work / "layer_norm", EXAMPLES / "go" / "layer_norm.go", **environment)
    return [work / "layer_norm"]


def fortran(prefix: Path, work: Path) -> list[str | Path]:
    source, library = EXAMPLES / "fortran" / "layer_norm.f90", prefix / "lib" / "liblnorm.a"
    warnings = ["-std=f2018", "-Wall", "-Wextra", "-Werror"]
    run("gfortran", *warnings, "-J", work, source, library, "-lm", "-o", work / "layer_norm")
    return [work / "layer_norm"]


def lua(prefix: Path, work: Path) -> list[str | Path]:
    return ["luajit", EXAMPLES / "lua" / "layer_norm.lua", prefix]


def python_ctypes(prefix: Path, work: Path) -> list[str | Path]:
    return [sys.executable, EXAMPLES / "python" / "ctypes_layer_norm.py", prefix]


def python_cffi(prefix: Path, work: Path) -> list[str | Path]:
    return [sys.executable, EXAMPLES / "python" / "cffi_layer_norm.py", prefix]


@needs("cmake", "cc")
@pytest.mark.parametrize(
    "language",
    [
        pytest.param(rust, marks=needs("rustc")),
        pytest.param(go, marks=needs("go", "pkg-config")),
        pytest.param(fortran, marks=needs("gfortran")),
        pytest.param(lua, marks=needs("luajit")),
        python_ctypes,
        python_cffi,
    ],
    ids=lambda language: language.__name__,
)
def test_installed_library(
    installed: Path, tmp_path: Path, check: Callable[[str], None], language: Callable[[Path, Path], list[str | Path]]
) -> None:
    program = [str(part) for part in language(installed, tmp_path)]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(installed / "lib")}
    check(run(*program, **environment, LNORM_ISA="scalar"))
    refused = subprocess.run(
        program, env={**environment, "LNORM_ISA": "nonsense"}, capture_output=True, text=True, check=False
    )
    assert refused.returncode > 0 and "LNORM_ISA" in refused.stderr, "an error of the language's, not a signal"


# ---- Declarations ----

SIZES = {
    "rust": {"usize": 8, "i32": 4, "u32": 4, "i64": 8, "f64": 8, "Option<ParallelFor>": 8, "*mut c_void": 8},
    "fortran": {
        "integer(c_size_t)": 8,
        "integer(c_int32_t)": 4,
        "integer(c_int64_t)": 8,
        "real(c_double)": 8,
        "type(c_funptr)": 8,
        "type(c_ptr)": 8,
    },
}


def recorded_struct() -> list[tuple[str, int, int]]:
    """Return name, offset and size of each member of lnorm_problem."""
    text = (ROOT / "tests" / "abi" / "lnorm-0.1.txt").read_text()
    lines = re.findall(r"^lnorm_problem\.(\w+) at (\d+), (\d+) bytes$", text, re.MULTILINE)
    return [(name, int(offset), int(size)) for name, offset, size in lines]


def laid_out(members: list[tuple[str, int]]) -> list[tuple[str, int, int]]:
    """Return name, offset and size of members of these sizes, laid out as C does where sizes are alignments."""
    result, end = [], 0
    for name, size in members:
        offset = -(-end // size) * size
        result.append((name, offset, size))
        end = offset + size
    return result


def test_struct_in_rust() -> None:
    source = (EXAMPLES / "rust" / "layer_norm.rs").read_text()
    body = re.search(r"#\[repr\(C\)\]\nstruct lnorm_problem \{(.*?)\n\}", source, re.DOTALL)[1]
    members = re.findall(r"(\w+): (.*),", body)
    assert laid_out([(name, SIZES["rust"][kind]) for name, kind in members]) == recorded_struct()


def test_struct_in_fortran() -> None:
    source = (EXAMPLES / "fortran" / "layer_norm.f90").read_text()
    body = re.search(r"type, bind\(c\) :: lnorm_problem\n(.*?)end type", source, re.DOTALL)[1]
    members = re.findall(r"^ *(\S+) :: (\w+) =", body, re.MULTILINE)
    assert laid_out([(name, SIZES["fortran"][kind]) for kind, name in members]) == recorded_struct()


@pytest.fixture(scope="module")
def ctypes_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ctypes_example", EXAMPLES / "python" / "ctypes_layer_norm.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(sys.maxsize < 2**32, reason="recorded on machines whose pointers have 64 bits")
def test_struct_in_ctypes(ctypes_example: ModuleType) -> None:
    struct = ctypes_example.lnorm_problem
    fields = [(name, getattr(struct, name).offset, getattr(struct, name).size) for name, _ in struct._fields_]
    assert fields == recorded_struct()
    assert struct().struct_size == sizeof(struct)


@needs("cmake", "cc")
def test_threads_by_ctypes(installed: Path, ctypes_example: ModuleType) -> None:
    """Pieces of a call run on Python's threads, and give the same bits."""
    lnorm = ctypes_example.Lnorm(f"{installed}/lib/liblnorm.so")
    rows, cols = 256, 768
    x = np.random.default_rng(1607).standard_normal((rows, cols), np.float32)
    gamma = np.ones(cols, np.float32)
    names = set()

    def hook(context: None, count: int, task: Callable[..., None], argument: int) -> None:
        def named_task(argument: int, index: int) -> None:
            names.add((index, threading.current_thread().name))
            task(argument, index)

        ctypes_example.threads(context, count, named_task, argument)

    arguments = [(c_float * a.size).from_buffer(a) for a in (x, gamma)]
    one, several = (np.array(lnorm.rms_norm(*arguments, 1e-5, parallel_for)) for parallel_for in (None, hook))
    np.testing.assert_array_equal(several, one)
    np.testing.assert_array_equal(one.reshape(x.shape), pyln.rms_norm(x, cols, gamma, eps=1e-5))
    assert len(names) > 1 and all(name.startswith("ThreadPoolExecutor") for _, name in names)


# ---- Zig ----


@needs_zig
def test_zig(tmp_path: Path, check: Callable[[str], None]) -> None:
    """The library's sources compiled by Zig."""
    zig = EXAMPLES / "zig"
    text = (zig / "build.zig").read_text()
    assert set(re.findall(r'"(\w+\.c)"', text)) == {path.name for path in (ROOT / "src" / "c").glob("*.c")}
    assert f'.version = "{pyln.__version__}"' in (zig / "build.zig.zon").read_text()
    build = [*ZIG, "build", "run", "--build-file", zig / "build.zig", "--cache-dir", tmp_path]
    check(run(*build, "-Doptimize=ReleaseSmall", LNORM_ISA="scalar"))  # the mode that compiles in half of the time


# ---- JavaScript ----


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of examples/javascript with lnorm.wasm built."""
    copy = tmp_path_factory.mktemp("javascript") / "page"
    shutil.copytree(JAVASCRIPT, copy, ignore=shutil.ignore_patterns("*.wasm"))
    run(JAVASCRIPT / "build.sh", copy / "lnorm.wasm", PYTHON=sys.executable)
    return copy


def evaluate(code: str, *arguments: str | Path) -> object:
    """Return what a module of JavaScript gives to tell(value), in Node."""
    told = "const tell = (value) => console.log(JSON.stringify(value));\n"
    return json.loads(run("node", "--input-type=module", "--eval", told + code, *arguments))


@needs_zig
@needs_node
def test_node(page: Path, check: Callable[[str], None]) -> None:
    check(run("node", page / "layer_norm.mjs"))


@needs_zig
@needs_node
def test_wasm_module(page: Path) -> None:
    """Needs nothing, exports what the header declares, and is as small as build.sh says."""
    code = """
        import { readFile } from "node:fs/promises";
        const module = await WebAssembly.compile(await readFile(process.argv[1]));
        const names = WebAssembly.Module.exports(module).map(({ name }) => name);
        tell([WebAssembly.Module.imports(module), names.filter((name) => name.startsWith("lnorm_"))]);
    """
    imports, exports = evaluate(code, page / "lnorm.wasm")
    assert imports == []
    assert sorted(exports) == sorted(re.findall(r"^LNORM_API .*?\b(lnorm_\w+)\(", HEADER.read_text(), re.MULTILINE))
    said = re.search(r"-Os -msimd128 +([\d.]+) kB", (JAVASCRIPT / "build.sh").read_text())[1]
    assert (page / "lnorm.wasm").stat().st_size == pytest.approx(1000 * float(said), rel=0.02)


@needs_zig
@needs_node
@pytest.mark.parametrize("module", ["whole", "small"])
def test_javascript(page: Path, tmp_path: Path, module: str) -> None:
    """Tensors of several megabytes, for which the memory grows, have pyln's bits; what is refused throws."""
    wasm = page / "lnorm.wasm"
    if module == "small":
        wasm = tmp_path / "small.wasm"
        run(JAVASCRIPT / "build.sh", "--small", wasm, PYTHON=sys.executable)
        assert wasm.stat().st_size < 7000
    rows, cols = 700, 1001
    x = np.random.default_rng(1607).standard_normal((rows, cols), np.float32) + np.float32(100)
    (tmp_path / "x.bin").write_bytes(x.tobytes())
    code = """
        import { readFile, writeFile } from "node:fs/promises";
        const [wasm, folder, script, cols] = process.argv.slice(1);
        const { load, LnormError } = await import(script);
        const lnorm = await load(await readFile(wasm));
        const x = new Float32Array(new Uint8Array(await readFile(`${folder}/x.bin`)).buffer);
        for (let i = 0; i < 2; i++) {
            const { y } = lnorm.layerNorm(x, Number(cols));
            await writeFile(`${folder}/y.bin`, y);
        }
        const said = [];
        for (const [length, options] of [[cols, { eps: NaN }], [cols - 1, {}], [0, {}], [cols, { gamma: x }],
                                         [cols, { beta: [1] }]]) {
            try {
                said.push(lnorm.layerNorm(x, Number(length), options));
            } catch (error) {
                said.push(error instanceof LnormError ? error.status : error.name);
            }
        }
        tell(said);
    """
    said = evaluate(code, wasm, tmp_path, (page / "lnorm.mjs").as_uri(), str(cols))
    y = np.frombuffer((tmp_path / "y.bin").read_bytes(), np.float32)
    np.testing.assert_array_equal(y.reshape(x.shape), pyln.layer_norm(x, cols))
    assert said == [8, "RangeError", "RangeError", "RangeError", "TypeError"]


@needs_zig
def test_struct_in_javascript(tmp_path: Path) -> None:
    """Offsets with pointers of 32 bits, which a compiler for WebAssembly knows."""
    said = re.search(r"PROBLEM = \{(.*)\}", (JAVASCRIPT / "lnorm.mjs").read_text())[1]
    places = {name: int(place) for name, place in re.findall(r"(\w+): (\d+)", said)}
    size = places.pop("sizeof")
    asserts = [f'_Static_assert(sizeof(lnorm_problem) == {size}, "sizeof");']
    asserts += [
        f'_Static_assert(offsetof(lnorm_problem, {name}) == {place}, "{name}");' for name, place in places.items()
    ]
    (tmp_path / "places.c").write_text("\n".join(["#include <lnorm.h>", *asserts, ""]))
    compiler = [*ZIG, "cc", "-target", "wasm32-wasi", f"-I{HEADER.parent}"]
    run(*compiler, "-c", tmp_path / "places.c", "-o", tmp_path / "places.o")


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@needs_zig
@needs_chromium
def test_page(page: Path, tmp_path: Path, check: Callable[[str], None]) -> None:
    with served(page) as address:
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
        html = run("chromium", *options, "--virtual-time-budget=60000", "--dump-dom", f"{address}/index.html")
    check(re.search(r'<pre id="output">(.*?)</pre>', html, re.DOTALL)[1])
