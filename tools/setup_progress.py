"""One line of progress for each step: rewritten on a terminal, sparse elsewhere."""

import re
import shutil
import sys
import time

INTERESTING = re.compile(r"\s*(Collecting|Downloading|Preparing|Building|Installing|\[\d+/\d+\]|Successfully) ?(.*)")
LARGE = re.compile(r"\(([\d.]+) (MB|GB)\)")
LARGE_MB = 30.0


class Progress:
    """Show the title of a step, what it is doing, and how long it took."""

    def __init__(self, title):
        self.title, self.start, self.terminal = title, time.monotonic(), sys.stdout.isatty()
        print(title + ("" if self.terminal else " ..."), end="" if self.terminal else "\n", flush=True)

    def show(self, line):
        """Show a line of the running command's output where it tells something."""
        match = INTERESTING.match(line)
        if not match:
            return
        size = LARGE.search(line)
        text = f"{match.group(1)} {match.group(2)}"
        # pip names a file by its whole address.
        text = re.sub(r"https?://\S*/", "", text)
        if self.terminal:
            width = shutil.get_terminal_size().columns
            print(f"\r\033[K{f'{self.title}: {text}'[:width - 1]}", end="", flush=True)
        elif size and float(size.group(1)) * (1000 if size.group(2) == "GB" else 1) >= LARGE_MB:
            print(f"      {text}", flush=True)

    def finish(self):
        """Say how long the step took."""
        print(("\r\033[K" if self.terminal else "") + f"{self.title}: {time.monotonic() - self.start:.0f} s", flush=True)
