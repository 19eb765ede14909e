"""Builds what is compiled: the extension, and the plain C library with its pkg-config file.

``shmipc/lib/libshmipc.so`` is the core under its public C API (shmipc/include/shmipc.h), without
Python: no ABI tag in its name, no Python header, no libpython. It is built by ``build_ext`` beside
the extension, so that wheels, editable installs and ``build_ext --inplace`` all have it.
Everything else is in pyproject.toml.
"""

import os
import shlex
from copy import copy
from glob import glob
from runpy import run_path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

VERSION_FILE = "shmipc/_version.py"
VERSION = run_path(VERSION_FILE)["__version__"]
FLAGS = ["-std=c11", "-O3", "-fvisibility=hidden", "-fno-plt"]
SYMBOLS = "src/api/libshmipc.map"
# Never unloaded: the process's SIGBUS handler, its fork handlers and each thread's last error point
# into it, and outlive a dlclose(3).
STAYS = "-Wl,-z,nodelete"

# Found wherever the package lies: ${pcfiledir} is the directory of this very file.
PKG_CONFIG = f"""\
prefix=${{pcfiledir}}/../..
includedir=${{prefix}}/include
libdir=${{prefix}}/lib

Name: shmipc
Description: Messages, typed records and frames between processes through shared memory
Version: {VERSION}
Cflags: -I${{includedir}}
Libs: -L${{libdir}} -Wl,-rpath,${{libdir}} -lshmipc
"""


def headers(*directories):
    return sorted(path for directory in directories for path in glob(f"{directory}/*.h"))


EXTENSION = Extension(
    "shmipc._core",
    sources=sorted(glob("src/core/*/*.c") + glob("src/binding/**/*.c", recursive=True)),
    depends=[*headers("src/core/*", "src/binding/*"), "shmipc/include/shmipc_events.h"],
    include_dirs=[numpy.get_include()],
    extra_compile_args=FLAGS,
    extra_link_args=[STAYS],
)
LIBRARY = Extension(
    "shmipc.lib.libshmipc",
    sources=sorted(glob("src/core/*/*.c") + glob("src/api/*.c")),
    depends=[
        *headers("src/core/*", "src/api", "shmipc/include"),
        *(SYMBOLS, VERSION_FILE, "setup.py"),
    ],
    include_dirs=["shmipc/include"],
    define_macros=[("SHMIPC_VERSION", f'"{VERSION}"')],
    extra_compile_args=[*FLAGS, "-pthread"],
    extra_link_args=[
        "-pthread",
        "-Wl,-soname,libshmipc.so",
        f"-Wl,--version-script={SYMBOLS}",
        "-Wl,--no-undefined",
        STAYS,
    ],
)


class BuildNative(build_ext):
    """``build_ext`` that knows how `LIBRARY` differs from an extension."""

    def get_ext_filename(self, fullname):
        if fullname.rpartition(".")[2] == LIBRARY.name.rpartition(".")[2]:
            return os.path.join(*fullname.split(".")) + ".so"
        return super().get_ext_filename(fullname)

    def build_extension(self, ext):
        if ext is not LIBRARY:
            super().build_extension(ext)
            return
        pkg_config = self._pkg_config(self.build_lib)
        self.mkpath(os.path.dirname(pkg_config))
        with open(pkg_config, "w", encoding="utf-8") as file:
            file.write(PKG_CONFIG)
        target = self.get_ext_fullpath(ext.name)
        self.make_file(
            [*ext.sources, *ext.depends], target, self._build_library, (ext, target), "building"
        )

    def _build_library(self, ext, target):
        # An extension is compiled and linked with Python's own directories, down to the run path.
        # A copy, because the extension may be compiling the same core at this moment.
        compiler = copy(self.compiler)
        compiler.set_include_dirs([])
        compiler.set_library_dirs([])
        compiler.set_executables(
            linker_so=[
                *compiler.compiler,
                "-shared",
                *shlex.split(os.environ.get("LDFLAGS", "")),
            ]
        )
        objects = compiler.compile(
            ext.sources,
            output_dir=os.path.join(self.build_temp, "libshmipc"),
            macros=ext.define_macros,
            include_dirs=ext.include_dirs,
            debug=self.debug,
            extra_postargs=ext.extra_compile_args,
            depends=ext.depends,
        )
        compiler.link_shared_object(
            objects, target, extra_postargs=ext.extra_link_args, debug=self.debug
        )

    def copy_extensions_to_source(self):
        here = self._pkg_config("")
        self.mkpath(os.path.dirname(here))
        super().copy_extensions_to_source()
        self.copy_file(self._pkg_config(self.build_lib), here)

    def get_outputs(self):
        # in place these are the keys of get_output_mapping()
        built = super().get_outputs()
        return built if self.inplace else [*built, self._pkg_config(self.build_lib)]

    def get_output_mapping(self):
        mapping = super().get_output_mapping()
        if self.inplace:
            mapping[self._pkg_config(self.build_lib)] = self._pkg_config("")
        return mapping

    @staticmethod
    def _pkg_config(root):
        return os.path.join(root, "shmipc", "lib", "pkgconfig", "shmipc.pc")


setup(ext_modules=[EXTENSION, LIBRARY], cmdclass={"build_ext": BuildNative})
