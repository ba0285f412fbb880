"""Train the decoders on drawn stick figures, in as many processes as torchrun starts: `train_together.py RUN BATCH`."""

import sys
from pathlib import Path

from egopose_ros.training.loop import Trainer
from egopose_ros.training.processes import join, leave
from stick_figures import draw_clip
from test_training import MODEL, settings

if __name__ == "__main__":
    folder, batch = Path(sys.argv[1]), int(sys.argv[2])
    processes = join("cpu")
    clips = [draw_clip(seed) for seed in range(10)]
    off = {f"{stage}.steps": 0 for stage in ("small", "frames", "sequences")}
    on = {"decoders.steps": 6, "decoders.batch": batch, "decoders.passes": 2, "decoders.side": 64}
    model = {**MODEL, "head_pose_dropout": 0.0}  # each process would draw its own
    # Attention is weighed by visibility: the mean of two parts' means is not that of the whole.
    Trainer(settings(**off, **on, **{"loss.attention": 0.0}), model, folder, clips, clips[:2], processes=processes).run()
    leave(processes)
    # A thread of the group that is left at the end of a process may abort it.
    names = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    assert not [name for name in names if "gloo" in name], names
