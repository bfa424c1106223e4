"""One process of a fit under torchrun, in which a fault happens at a chosen training step.

torchrun ... fit_process.py FAULT RANK STEP fit ...

FAULT is `none`, `die`, `stop` (the process does not go on), or `interrupt` (torchrun gets SIGTERM).
"""

import os
import signal
import sys
from datetime import timedelta

from safelight.cli.main import main
from safelight.fitting import processes
from safelight.fitting.train import NetTrainer

SHORT_TIMEOUT = timedelta(seconds=20)
SIGNALS = {
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "interrupt": lambda: os.kill(os.getppid(), signal.SIGTERM),
}


def cause(fault, at):
    """Makes the fault happen after a training step."""
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
