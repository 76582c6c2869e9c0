"""The recipe for Conan 2, of the checkout that it lies in: conan create packaging/conan."""
# ruff: noqa: RUF012

import re
from pathlib import Path

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load, rmdir

required_conan_version = ">=2.4"

CHECKOUT = "../.."
SOURCES = ("CMakeLists.txt", "LICENSE", "cmake/*", "include/*", "src/c/*")


class LnormConan(ConanFile):
    name = "lnorm"
    description = "Layer normalization, forward and backward"
    license = "MIT"
    topics = ("layer-normalization", "simd", "numerics")
    package_type = "library"
    languages = "C"
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False], "fPIC": [True, False]}
    default_options = {"shared": False, "fPIC": True}
    implements = ["auto_shared_fpic"]

    def set_version(self):
        header = load(self, Path(self.recipe_folder, CHECKOUT, "include", "lnorm.h"))
        self.version = re.search(r'#define LNORM_VERSION_STRING "([^"]+)"', header)[1]

    def export_sources(self):
        for pattern in SOURCES:
            copy(self, pattern, Path(self.recipe_folder, CHECKOUT), self.export_sources_folder)

    def layout(self):
        self.folders.root = CHECKOUT
        cmake_layout(self)

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.user_presets_path = False
        toolchain.cache_variables["LNORM_BUILD_TESTS"] = False
        toolchain.cache_variables["LNORM_BUILD_STATIC"] = not self.options.shared
        toolchain.cache_variables["LNORM_BUILD_SHARED"] = bool(self.options.shared)
        toolchain.cache_variables["CMAKE_INSTALL_DOCDIR"] = "licenses"
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()
        for directory in ("cmake", "pkgconfig"):  # consumers get Conan's own
            rmdir(self, Path(self.package_folder, "lib", directory))

    def package_info(self):
        kind = "shared" if self.options.shared else "static"
        self.cpp_info.set_property("cmake_target_name", "lnorm::lnorm")
        self.cpp_info.set_property("cmake_target_aliases", [f"lnorm::lnorm_{kind}"])
        self.cpp_info.set_property("cmake_config_version_compat", "SameMinorVersion")
        self.cpp_info.libs = ["lnorm"]
        if self.options.shared:
            self.cpp_info.defines = ["LNORM_SHARED"]
        elif self.settings.os in ("Linux", "FreeBSD"):
            self.cpp_info.system_libs = ["m"]
