"""One process of a fit under torchrun, in which a fault happens at a chosen training step.

torchrun ... fit_process.py FAULT RANK STEP fit ...

FAULT is `none`, `die`, `stop` (the process does not go on), `interrupt` (torchrun gets SIGTERM), or `fail` (the process
cannot read its pictures, whatever the step).
"""

import os
import signal
import sys
from datetime import timedelta

from safelight.cli import fit as cli
from safelight.cli.main import main
from safelight.errors import FitError
from safelight.fitting import processes
from safelight.fitting.train import NetTrainer

SHORT_TIMEOUT = timedelta(seconds=20)
SIGNALS = {
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "interrupt": lambda: os.kill(os.getppid(), signal.SIGTERM),
}


def fail(*_):
    raise FitError("no such folder")


def cause(fault, at):
    """Makes the fault happen after a training step."""
    if fault == "fail":
        cli.named_pairs = fail
        return
    learn = NetTrainer.learn

    def learn_and_fail(trainer, loss):
        learn(trainer, loss)
        if trainer.step == at:
            SIGNALS[fault]()

    NetTrainer.learn = learn_and_fail


if __name__ == "__main__":
    fault, rank, step, *arguments = sys.argv[1:]
    if fault == "stop":
        processes.TIMEOUT = SHORT_TIMEOUT
    if fault != "none" and os.environ["RANK"] == rank:
        cause(fault, int(step))
    sys.exit(main(arguments))
