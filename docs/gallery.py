#!/usr/bin/env python
"""Makes the pictures of `lectures.md`: runs the programs that it names, and halves what they draw.

python docs/gallery.py
python docs/gallery.py --drawn lectures    # from a folder where the programs have drawn before
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent
ENTRY = re.compile(r"\(pictures/(\w+\.png)\)\n`(\w+\.py)`")
COLOURS = 128  # of the palette; these pictures need no more, and take a third of the room


def draw(programs: set[str], folder: Path) -> None:
    """Run programs, which leave their pictures in a folder."""
    for program in sorted(programs):
        path = DOCS.parent / "examples" / "lectures" / program
        subprocess.run([sys.executable, str(path), "--out", str(folder)], check=True)


def shrink(source: Path, target: Path) -> None:
    """Half the size, and few colours."""
    with Image.open(source) as image:
        half = image.convert("RGB").resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    half.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)


def main() -> int:
    """Run the program; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--drawn", type=Path, metavar="FOLDER", help="where the pictures are already")
    options = parser.parse_args()
    entries = ENTRY.findall((DOCS / "lectures.md").read_text())
    with tempfile.TemporaryDirectory() as made:
        if options.drawn is None:
            draw({program for _, program in entries}, Path(made))
        for name, _ in entries:
            shrink((options.drawn or Path(made)) / name, DOCS / "pictures" / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
