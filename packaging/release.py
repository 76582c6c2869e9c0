"""Write lnorm-VERSION.tar.gz, and lnorm.wrap, by which projects that build with Meson take it.

    python packaging/release.py DIRECTORY URL [--revision REVISION]

URL is that of the directory where the archive is going to be. Prints what CMake's FetchContent asks for. Two runs write
the same bytes.
"""

import argparse
import hashlib
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

WRAP = """\
[wrap-file]
directory = {name}
source_url = {url}
source_filename = {name}.tar.gz
source_hash = {sha256}

[provide]
dependency_names = lnorm
"""


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", ROOT, *arguments], check=True, stdout=subprocess.PIPE).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the archive of a release, and a wrap file for Meson.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("url")
    parser.add_argument("--revision", default="HEAD", help="what git knows it as; default: %(default)s")
    given = parser.parse_args()

    header = git("show", f"{given.revision}:include/lnorm.h").decode()
    found = re.search(r'#define LNORM_VERSION_STRING "([^"]+)"', header)
    if found is None:
        parser.error(f"include/lnorm.h of {given.revision} does not define LNORM_VERSION_STRING")
    name = f"lnorm-{found[1]}"
    archive = git("archive", "--format=tar.gz", f"--prefix={name}/", given.revision)
    url, sha256 = f"{given.url.rstrip('/')}/{name}.tar.gz", hashlib.sha256(archive).hexdigest()

    given.directory.mkdir(parents=True, exist_ok=True)
    (given.directory / f"{name}.tar.gz").write_bytes(archive)
    (given.directory / "lnorm.wrap").write_text(WRAP.format(name=name, url=url, sha256=sha256))
    print(f"FetchContent_Declare(lnorm URL {url} URL_HASH SHA256={sha256})")


if __name__ == "__main__":
    main()
