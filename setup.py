"""Builds the one extension. Everything else is in pyproject.toml."""

from glob import glob

import numpy
from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "shmipc._core",
            sources=sorted(glob("src/core/*.c") + glob("src/binding/*.c")),
            depends=sorted(glob("src/core/*.h") + glob("src/binding/*.h")),
            include_dirs=[numpy.get_include()],
            extra_compile_args=["-std=c11", "-O3", "-fvisibility=hidden", "-fno-plt"],
        )
    ]
)
