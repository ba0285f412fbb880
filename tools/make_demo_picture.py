"""Make the README's picture: the page of `egopose demo`, photographed by a headless chromium while the bag plays.

    .venv/bin/python tools/make_demo_picture.py docs/images/demo.png [--at 6] [arguments of the demo]
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FLAGS = "--headless --no-sandbox --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader"
POSED = re.compile("^(tracking|initializing|degraded)$")
"""the states of a node that has said a pose"""
SIZE = {"width": 1400, "height": 860}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--at", type=float, default=6.0, help="seconds after the page has its first pose")
    arguments, demo_arguments = parser.parse_known_args()
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if browser_path is None:
        print("make_demo_picture: expected chromium on the PATH, got none; install it", file=sys.stderr)
        return 1
    command = [sys.executable, "-u", "-m", "egopose_ros.cli", "demo", "--no-browser", *demo_arguments]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    address = next((found.group() for line in demo.stdout if (found := re.search(r"http://\S+", line))), None)
    if address is None:
        return demo.wait()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=FLAGS.split())
        page = browser.new_page(viewport=SIZE)
        page.goto(address)
        page.locator("td", has_text=POSED).first.wait_for(timeout=180_000)
        page.add_style_tag(content=".mantine-Notifications-root { display: none }")  # about drawing in software
        page.wait_for_timeout(arguments.at * 1e3)
        arguments.picture.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=arguments.picture, timeout=180_000)
        browser.close()
    demo.stdout.read()
    return demo.wait()


if __name__ == "__main__":
    sys.exit(main())
