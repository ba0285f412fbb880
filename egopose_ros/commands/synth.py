"""`egopose synth`: make synthetic fisheye video with exact truth, as bags, clips or a contact sheet."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from egopose_ros.config import ConfigError
from egopose_ros.flags import add_flags, configuration
from egopose_ros.synth.export import SynthConfig, export
from egopose_ros.synth.sheet import sheet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, SynthConfig)
    parser.add_argument(
        "--out", type=Path, default=Path("synth"), metavar="DIR", help="folder to fill (default: synth)"
    )
    parser.add_argument(
        "--sheet", type=Path, metavar="PNG", help="write only a contact sheet of 24 recordings from --seed on"
    )


def run(arguments: argparse.Namespace) -> int:
    config = configuration(arguments, SynthConfig())
    if arguments.sheet is not None:
        _sheet(config, arguments.sheet)
        print(arguments.sheet)
        return 0
    for path in export(config, arguments.out):
        print(path)
    return 0


def _sheet(config: SynthConfig, path: Path) -> None:
    if config.rig:
        raise ConfigError("rig: a contact sheet shows drawn rigs; leave --rig or --sheet out")
    device, clips = config.resolve_device(), config.clips_folder()
    with tqdm(desc="contact sheet", unit="recording") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        sheet(
            path,
            split=config.split,
            seed=config.seed,
            views=config.views,
            device=device,
            clips=clips,
            progress=progress,
        )
