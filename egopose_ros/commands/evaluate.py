"""`egopose evaluate`: how good the poses are, on bags or on a split of the benchmark, frame by frame as they run live."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Callable

from egopose_ros.commands import DAMAGED, evaluate_split
from egopose_ros.commands.bag_evaluation import Subject, evaluate
from egopose_ros.commands.evaluation_outcome import Evaluation
from egopose_ros.config import DEFAULT_NETWORK, Config, Leaf, replace
from egopose_ros.evaluation import results
from egopose_ros.evaluation.contenders import Contender, contenders
from egopose_ros.evaluation.protocols import PROTOCOLS
from egopose_ros.evaluation.report_data import Report
from egopose_ros.evaluation.rows import allow_many_files
from egopose_ros.evaluation.runs import UNLIKE
from egopose_ros.evaluation.sheet import write_sheet
from egopose_ros.files import make_folder, require_folder, require_picture, write_whole
from egopose_ros.flags import settings
from egopose_ros.networks.table import NETWORKS
from egopose_ros.ros.bag_runs import TOGETHER
from egopose_ros.skeleton import SKELETONS

METRICS_FILE, REPORT_FILE = "metrics.json", "report.html"
_OF_BAGS = (
    "topics", "calibration", "truth", "truth_offset", "truth_frame", "truth_skeleton", "predictions", "predictions_topic"
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = (
        "Exit status: 0 done, 1 failed or worse than --gate allows, 2 wrong usage, 3 done with what is whole of a "
        "damaged bag."
    )
    parser.add_argument("bags", nargs="*", type=Path, metavar="BAG", help="bag folder, or a .mcap, .db3 or .bag file")
    parser.add_argument(
        "--network", action="append", default=[], choices=tuple(NETWORKS),
        help=f"default that of the checkpoint, or {DEFAULT_NETWORK}; again: compare",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint", action="append", default=[],
        help="checkpoint, a file or the name of one that ships (default: the network's own); again: compare",
    )  # fmt: skip
    parser.add_argument("--precision", default="", help="as runtime.precision (default auto)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any setting of the estimator; repeatable"
    )
    parser.add_argument(
        "--together", type=int, default=TOGETHER, metavar="N",
        help="frames that go through the network at once; with 1 a frame takes the time of a live one (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--protocol", default="egopose", choices=tuple(PROTOCOLS), help="default %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as one JSON object")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write metrics.json, report.html and a bag's poses there")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write good, typical and worst frames as one picture")
    parser.add_argument("--gate", type=Path, metavar="BASELINE", help="fail where the first run is worse than in this")
    parser.add_argument(
        "--tolerance", action="append", default=[], metavar="NAME=VALUE[%]", help="by how much it may be; * is every one"
    )
    _add_bag_arguments(parser.add_argument_group("bags"))
    evaluate_split.add_arguments(parser.add_argument_group("split of the benchmark, without a bag"))


def _add_bag_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--topics", nargs="+", default=(), help="image topics of the rig, where a bag has several")
    group.add_argument("--calibration", default="", help="calibration file (default: that of the bag, or CameraInfo)")
    group.add_argument(
        "--truth", default="", metavar="TOPIC|FILE",
        help="ground truth: a topic of poses, TF or markers, or a .csv, .json or .npz file (default: the bag's own)",
    )  # fmt: skip
    group.add_argument("--truth-offset", default="", metavar="S|auto", help="how far its clock is ahead (default 0)")
    group.add_argument("--truth-frame", default="", choices=("camera", "world"), help="frame of its joints, if unclear")
    group.add_argument("--truth-skeleton", default="", choices=tuple(SKELETONS), help="skeleton of its joints, if unclear")
    group.add_argument(
        "--predictions", action="append", default=[], type=Path, metavar="BAG",
        help="poses recorded live, scored beside those made here and compared: a bag for each BAG, or several for one",
    )  # fmt: skip
    group.add_argument("--predictions-topic", default="", help="their topic, where a bag has several")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print, write and judge."""
    for flag in ("json", "sheet"):
        if getattr(arguments, flag) is not None:
            require_folder(getattr(arguments, flag), f"--{flag}")
    if arguments.sheet is not None:
        require_picture(arguments.sheet, "--sheet")
    if arguments.together < 1:
        raise ValueError(f"--together: expected 1 or more, got {arguments.together}")
    others = evaluate_split.DEFAULTS if arguments.bags else _OF_BAGS
    given = [f"--{name.replace('_', '-')}" for name in others if getattr(arguments, name) not in (None, "", (), [])]
    if given:
        expected = ("no BAG", str(arguments.bags[0])) if arguments.bags else ("a BAG", "none")
        raise ValueError(f"expected {expected[0]} with {', '.join(given)}, got {expected[1]}")
    # What can be wrong with the command line is found before the work.
    baseline = results.read_baseline(arguments.gate) if arguments.gate is not None else None
    tolerances = results.parse_tolerances(arguments.tolerance)
    if baseline is None and tolerances:
        raise ValueError(f"--tolerance: expected --gate with it, got {', '.join(arguments.tolerance)} alone")
    if baseline is not None:
        results.require_known(tolerances, baseline)
    flags = {"runtime.precision": arguments.precision, "camera.calibration": arguments.calibration}
    overrides = settings(arguments.set, flags)
    subjects = contenders(arguments.network, arguments.checkpoint, replace(Config(), overrides).network)
    render = _renderer() if arguments.output is not None else None
    if arguments.output is not None:
        make_folder(arguments.output, "--output")
        require_folder(arguments.output / METRICS_FILE, "--output")
    allow_many_files()
    with contextlib.ExitStack() as poses:  # which take their names last, when all else is written
        if arguments.bags:
            evaluation = evaluate(_subject(arguments, subjects, overrides), poses)
        else:
            evaluation = evaluate_split.evaluate(evaluate_split.complete(arguments), subjects, overrides)
        content = json.dumps(evaluation.numbers, indent=2) + "\n"
        report = render(evaluation.report) if render is not None else ""
        print(_table(evaluation))
        if arguments.sheet is not None:
            write_sheet(arguments.sheet, evaluation.report.pictures)
        if arguments.json is not None:
            write_whole(arguments.json, content)
        if arguments.output is not None:
            write_whole(arguments.output / METRICS_FILE, content)
            write_whole(arguments.output / REPORT_FILE, report)
    if arguments.output is not None:
        print(f"report: {arguments.output / REPORT_FILE}")
    for line in evaluation.losses:
        print(f"egopose evaluate: {line}", file=sys.stderr)
    if baseline is not None and not _passes(evaluation, baseline, tolerances):
        return 1
    return DAMAGED if evaluation.losses else 0


def _subject(arguments: argparse.Namespace, subjects: tuple[Contender, ...], overrides: dict[str, Leaf]) -> Subject:
    return Subject(
        bags=tuple(arguments.bags),
        contenders=subjects,
        topics=tuple(arguments.topics),
        overrides=overrides,
        truth=arguments.truth,
        truth_offset=arguments.truth_offset or "0",
        truth_frame=arguments.truth_frame,
        truth_skeleton=arguments.truth_skeleton,
        protocol=arguments.protocol,
        predictions=tuple(arguments.predictions),
        predictions_topic=arguments.predictions_topic,
        output=arguments.output,
        together=arguments.together,
    )


def _renderer() -> Callable[[Report], str]:
    try:
        from egopose_ros.evaluation.report import render
    except ImportError as error:
        raise ValueError(f"--output: the report needs matplotlib, `pip install 'egopose_ros[eval]'`: {error}") from None
    return render


def _passes(evaluation: Evaluation, baseline: dict[str, float], tolerances: dict[str, tuple[float, bool]]) -> bool:
    verdicts = results.gate(evaluation.metrics[0], baseline, tolerances)
    failed = [verdict for verdict in verdicts if not verdict.passed]
    for verdict in failed:
        print(f"egopose evaluate: gate: {verdict}", file=sys.stderr)
    print(f"gate: {len(verdicts) - len(failed)} of {len(verdicts)} metrics are as good as the baseline")
    return not failed


def _table(evaluation: Evaluation) -> str:
    """Return one line a metric and one column a run."""
    runs = evaluation.numbers["runs"]
    rows = []
    for bag in evaluation.numbers["bags"]:
        truth = bag["truth"]
        how = f" (estimated, correlation {truth['correlation']:.2f})" if truth["offset_estimated"] else ""
        rows.append(f"{bag['bag']}: {bag['frames']} frames, truth {truth['source']}, offset {truth['offset_s']:.3f} s{how}")
        refused = ", ".join(f"{count} {reason}" for reason, count in bag["rejected"].items())
        rows += [f"  not used: {refused}"] if refused else []
        rows += [f"  note: {note}" for note in bag["notes"]]
    rows.append(" " * 28 + "".join(f"{run['label'][-22:]:>24}" for run in runs))
    for name in dict.fromkeys(name for run in runs for name in run["metrics"]):
        cells = [_cell(run["metrics"].get(name)) for run in runs]
        rows.append(f"  {name:26}" + "".join(f"{cell:>24}" for cell in cells))
    for joint in runs[0]["per_joint_mm"]:
        cells = [f"{run['per_joint_mm'][joint]:.2f}" if joint in run["per_joint_mm"] else "-" for run in runs]
        rows.append(f"  {joint + '_mm':26}" + "".join(f"{cell:>24}" for cell in cells))
    for live in evaluation.numbers["live"]:
        if live["not_compared"]:
            rows.append(f"{live['predictions']}: not compared: {live['not_compared']}")
            continue
        rows.append(
            f"{live['predictions']}: {live['common']} frames as offline, up to {live['largest_mm']} mm apart; "
            f"{len(live['dropped_ns'])} dropped"
            + (f"; not compared: {len(live['unlike_ns'])}, each {UNLIKE}" if live["unlike_ns"] else "")
        )
    if not all(run["weights_trained"] for run in runs):
        rows.append("random weights: these poses mean nothing")
    return "\n".join(rows)


def _cell(entry: dict | None) -> str:
    if entry is None or entry["value"] is None:
        return "-"
    return f"{entry['value']:.2f}" + (f" [{entry['low']:.2f}, {entry['high']:.2f}]" if "low" in entry else "")
