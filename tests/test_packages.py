"""The C library as a part of other builds, and by package managers: add_subdirectory, FetchContent, Meson, Conan, vcpkg.

It is compiled by -O1, which takes half the time: how it is passed on is tested here, and not what it computes.
"""

import json
import re
import shutil
import sys
import tarfile
import textwrap
from pathlib import Path

import pytest
from commands import ROOT, run
from test_consumers import CONSUMERS, HEADER, SOURCES, needs_cmake, needs_pkg_config, run_programs

PACKAGING = ROOT / "packaging"
PORT = PACKAGING / "vcpkg" / "lnorm"
VERSION = re.findall(r'#define LNORM_VERSION_STRING "(.*)"', HEADER.read_text())[0]
SHARED = [f"lib/liblnorm.so{end}" for end in ("", f".{VERSION.rpartition('.')[0]}", f".{VERSION}")]

needs_git = pytest.mark.skipif(
    not (shutil.which("git") and (ROOT / ".git").exists()),
    reason="the archive of a release is made by git of a checkout",
)
needs_meson = pytest.mark.skipif(
    not (shutil.which("meson") and shutil.which("ninja")), reason="Meson's way needs meson and ninja"
)
needs_conan = pytest.mark.skipif(not shutil.which("conan"), reason="the recipe needs conan")
needs_ninja = pytest.mark.skipif(not shutil.which("ninja"), reason="vcpkg builds with ninja")


def files_of(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir()}


def make_release(directory: Path) -> str:
    return run(sys.executable, PACKAGING / "release.py", directory, directory.as_uri())


@pytest.fixture
def release(tmp_path: Path) -> tuple[Path, str]:
    """Archive the last commit; the directory, and what is printed."""
    return tmp_path / "release", make_release(tmp_path / "release")


def test_versions() -> None:
    """Files that have to name the version themselves name the header's."""
    meson = re.findall(r"^project\('lnorm'.* version: '(.*?)'", (ROOT / "meson.build").read_text(), re.MULTILINE)
    vcpkg = json.loads((PORT / "vcpkg.json").read_text())["version"]
    assert [*meson, vcpkg] == [VERSION, VERSION]


def test_meson_names_every_source() -> None:
    text = (ROOT / "meson.build").read_text()
    assert set(re.findall(r"'src/c/(\w+)\.c'", text)) == {source.stem for source in SOURCES}


@needs_git
def test_release(release: tuple[Path, str]) -> None:
    """The archive has one directory, named by the version, and is the same when made again."""
    directory, told = release
    archive = directory / f"lnorm-{VERSION}.tar.gz"
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[::2] for name in tar.getnames()}
    assert {top for top, _ in names} == {f"lnorm-{VERSION}"}
    assert {"LICENSE", "CMakeLists.txt", "meson.build", "include/lnorm.h", "src/c/lnorm.c"} <= {
        name for _, name in names
    }
    before = archive.read_bytes()
    assert make_release(directory) == told and archive.read_bytes() == before


@needs_cmake
@needs_git
@pytest.mark.parametrize("way", ["add_subdirectory", "FetchContent"])
def test_part_of_another_build(release: tuple[Path, str], tmp_path: Path, way: str) -> None:
    """As part of another project: its targets and nothing else, no tests, no installation."""
    build, prefix = tmp_path / "build", tmp_path / "prefix"
    if way == "add_subdirectory":
        source = f"-DLNORM_SOURCE_DIR={ROOT}"
    else:
        declared = re.findall(r"FetchContent_Declare\(lnorm (.*)\)", release[1])[0]
        source = f"-DLNORM_ARCHIVE={declared.replace(' ', ';')}"
    run(
        *("cmake", "-S", CONSUMERS, "-B", build, source, f"-DCMAKE_INSTALL_PREFIX={prefix}"),
        *("-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_C_FLAGS_DEBUG=-O1"),
    )
    run("cmake", "--build", build, "--parallel", "2")
    run_programs(build)
    run("cmake", "--install", build)
    assert not files_of(prefix)


@needs_meson
@needs_git
@pytest.mark.parametrize(("way", "default_library"), [("directory", "static"), ("wrap", "shared")])
def test_meson_subproject(release: tuple[Path, str], tmp_path: Path, way: str, default_library: str) -> None:
    """As a subproject, there already or fetched by the wrap file, of another project, which installs nothing of it."""
    project, build = tmp_path / "project", tmp_path / "build"
    shutil.copytree(CONSUMERS, project)
    (project / "subprojects").mkdir()
    if way == "directory":
        (project / "subprojects" / "lnorm").symlink_to(ROOT)
    else:
        # By another file name, so that lnorm is found by what the wrap provides.
        shutil.copy(release[0] / "lnorm.wrap", project / "subprojects" / "normalization.wrap")
    options = [f"-Ddefault_library={default_library}", "-Dbuildtype=plain", "-Dc_args=-O1"]
    run("meson", "setup", project, build, "--wrap-mode=forcefallback", *options)
    run("meson", "test", "-C", build, "-v")
    run("meson", "install", "-C", build, "--destdir", tmp_path / "prefix")
    assert not (tmp_path / "prefix").exists()
    told = run("meson", "introspect", "--projectinfo", build)
    assert f'"version": "{VERSION}", "descriptive_name": "lnorm"' in told


@needs_meson
def test_meson_alone(tmp_path: Path) -> None:
    """On its own, what Meson would install is what CMake installs, but for CMake's package."""
    run("meson", "setup", ROOT, tmp_path, "-Dprefix=/opt/lnorm", "-Dlibdir=lib", "-Ddefault_library=both")
    installed = json.loads(run("meson", "introspect", "--installed", tmp_path)).values()
    assert {Path(path).relative_to("/opt/lnorm").as_posix() for path in installed} == {
        *("include/lnorm.h", "include/lnorm.hpp", "share/doc/lnorm/LICENSE", "lib/pkgconfig/lnorm.pc"),
        *("lib/liblnorm.a", *SHARED),
    }


@needs_cmake
@needs_conan
@pytest.mark.parametrize("kind", ["static", "shared"])
def test_conan(tmp_path: Path, kind: str) -> None:
    """`conan create` builds the package from the checkout, and tests/consumers by it, with nothing from elsewhere."""
    home, tests = str(tmp_path / "home"), tmp_path / "tests"
    run("conan", "profile", "detect", CONAN_HOME=home)
    options = {"static": ["shared=False", "fPIC=False"], "shared": ["shared=True"]}[kind]
    told = run(
        *("conan", "create", PACKAGING / "conan", "--no-remote", "--format=json"),
        *(f"--options={option}" for option in options),
        *("--conf", f"tools.cmake.cmake_layout:test_folder={tests}"),
        *("--conf", 'tools.cmake.cmaketoolchain:extra_variables={"CMAKE_C_FLAGS_RELEASE": "-O1"}'),
        CONAN_HOME=home,
    )
    package = next(node for node in json.loads(told)["graph"]["nodes"].values() if node["name"] == "lnorm")
    assert package["version"] == VERSION
    assert files_of(Path(package["package_folder"])) == {
        *("include/lnorm.h", "include/lnorm.hpp", "licenses/LICENSE", "conaninfo.txt", "conanmanifest.txt"),
        *(["lib/liblnorm.a"] if kind == "static" else SHARED),
    }
    flags = [path.read_text() for path in Path(home).rglob("lnorm_objects.dir/flags.make")]
    assert ["-fPIC" in text for text in flags] == [kind == "shared"]
    run_programs(next(tests.rglob("CTestTestfile.cmake")).parent, targets=2)


# What describes a port, in the order of `vcpkg format-manifest`.
VCPKG_FIELDS = [
    *("name", "version", "port-version", "maintainers", "contacts", "summary", "description", "homepage"),
    *("documentation", "license", "supports", "dependencies"),
]


def test_vcpkg_manifest() -> None:
    """Documented fields in their order, and the ports whose functions the portfile calls."""
    manifest = json.loads((PORT / "vcpkg.json").read_text())
    assert list(manifest) == [field for field in VCPKG_FIELDS if field in manifest]
    assert (manifest["name"], manifest["license"]) == (PORT.name, "MIT")
    calls = set(re.findall(r"^(vcpkg_cmake_\w+)\(", (PORT / "portfile.cmake").read_text(), re.MULTILINE))
    owners = {"vcpkg-cmake-config" if name == "vcpkg_cmake_config_fixup" else "vcpkg-cmake" for name in calls}
    assert manifest["dependencies"] == [{"name": owner, "host": True} for owner in sorted(owners)]


VCPKG_USER = """
cmake_minimum_required(VERSION 3.21)
project(user LANGUAGES C CXX)
find_package(Threads REQUIRED)
add_executable(main {source})
{usage}
target_link_libraries(main PRIVATE Threads::Threads)
target_compile_features(main PRIVATE cxx_std_17)
file(GENERATE OUTPUT $<CONFIG>.txt CONTENT $<TARGET_FILE:lnorm::lnorm>)
"""


@needs_cmake
@needs_ninja
@needs_pkg_config
@pytest.mark.parametrize(("linkage", "types"), [("static", ["Debug", "Release"]), ("dynamic", ["Release"])])
def test_vcpkg(tmp_path: Path, linkage: str, types: list[str]) -> None:
    """The port, by stand-ins for vcpkg's functions: what vcpkg looks at after a build, and a user who does as `usage` says."""
    packages = tmp_path / "packages"
    run(
        *("cmake", f"-DWORK={tmp_path}", f"-DVCPKG_LIBRARY_LINKAGE={linkage}", "-DC_FLAGS=-O1"),
        *(["-DVCPKG_BUILD_TYPE=release"] if "Debug" not in types else []),
        *("-P", CONSUMERS / "vcpkg.cmake"),
    )
    prefixes = {"Release": "", "Debug": "debug/"}
    libraries = ["lib/liblnorm.a"] if linkage == "static" else SHARED
    cmake = ["Config", "ConfigVersion", "Targets", *(f"Targets-{build.lower()}" for build in types)]
    assert files_of(packages) == {
        *("include/lnorm.h", "include/lnorm.hpp", "share/lnorm/copyright", "share/lnorm/usage"),
        *(f"share/lnorm/lnorm{name}.cmake" for name in cmake),
        *(f"{prefixes[build]}{name}" for build in types for name in [*libraries, "lib/pkgconfig/lnorm.pc"]),
    }
    assert all(any(path.iterdir()) for path in packages.rglob("*") if path.is_dir()), "empty directories"
    assert (packages / "share/lnorm/copyright").read_bytes() == (ROOT / "LICENSE").read_bytes()
    for path in packages.rglob("*"):
        if path.suffix in {".pc", ".cmake"}:
            assert str(tmp_path) not in path.read_text() and str(ROOT) not in path.read_text(), path

    installed = packages.rename(tmp_path / "installed")
    project, build = tmp_path / "project", tmp_path / "build"
    project.mkdir()
    usage = re.findall(r"^    .*\)$", (installed / "share/lnorm/usage").read_text(), re.MULTILINE)
    text = VCPKG_USER.format(source=CONSUMERS / "wrapper.cpp", usage=textwrap.dedent("\n".join(usage)))
    (project / "CMakeLists.txt").write_text(text)
    run(
        *("cmake", "-G", "Ninja Multi-Config", "-S", project, "-B", build, f"-DCMAKE_PREFIX_PATH={installed}"),
        f"-DCMAKE_CONFIGURATION_TYPES={';'.join(types)}",
    )
    for kind in types:
        prefix = installed / prefixes[kind]
        run("cmake", "--build", build, "--config", kind)
        assert f"lnorm {VERSION}," in run(build / kind / "main")
        assert Path((build / f"{kind}.txt").read_text()).resolve() == (prefix / libraries[-1]).resolve()
        includedir, libdir = (
            run("pkg-config", f"--variable={name}", "lnorm", PKG_CONFIG_PATH=str(prefix / "lib" / "pkgconfig")).strip()
            for name in ("includedir", "libdir")
        )
        assert Path(includedir).resolve() == installed / "include" and Path(libdir).resolve() == prefix / "lib"
