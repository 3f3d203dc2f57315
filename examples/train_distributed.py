"""A language model of normalized cells, trained on one core, several devices, several machines: the same program.

    python examples/train_distributed.py                                          one device, or all of this machine
    python examples/train_distributed.py --cpu-devices 8 --mesh data=4,model=2    eight devices that the CPU simulates
    python examples/train_distributed.py --coordinator HOST:1234 --processes 2 --process 0     and 1 on the other
    python examples/train_distributed.py --cluster                                on each host of a TPU slice, or Slurm
    python examples/train_distributed.py --compile-for v5e:16x16 --mesh data=32,model=8        the plan, before you rent
    python examples/train_distributed.py --resume                                 resumes, anywhere

A run that was killed resumes with the same numbers, even with another number of processes or another mesh. See the page
"From one core to a pod" of the documentation. The parts of the program are in ``train_distributed_support``, one idea
per file. Needs the extra jaxnorm[examples].
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

import jax
from char_lm_support.errors import BadInput
from train_distributed_support import options, plan, processes, supervisor, training


def main(argv: Sequence[str] | None = None) -> int:
    try:
        args = options.parse(argv)
        if args.compile_for:
            plan.show(args)
            return 0
        several = processes.several(args)
        if several and not supervisor.is_child():
            return supervisor.supervise(args, __file__, sys.argv[1:] if argv is None else argv)
        if several:
            supervisor.prepare_child()
        return _work(args, several)
    except BadInput as error:
        print(f"train_distributed.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train_distributed.py: stopped. The same command goes on.", file=sys.stderr)
        return 130


def _work(args: argparse.Namespace, several: bool) -> int:
    """Runs one process. If one of several fails, it exits at once and skips what would wait for the others."""
    try:
        processes.join(args)
        if several:
            print(supervisor.JOINED, file=sys.stderr, flush=True)
        training.run(args)
        return 0
    except (BadInput, training.Lost, KeyboardInterrupt) as error:
        if not several:
            raise
        if isinstance(error, training.Lost):
            traceback.print_exc()  # into the log
            lost = f"process {jax.process_index()} lost another process"
            said = f"{lost}. Start all of them again: the same command goes on."
        else:
            said = str(error) or "stopped. The same command goes on."
        print(f"train_distributed.py: {said}", file=sys.stderr, flush=True)
        os._exit(supervisor.LOST if isinstance(error, training.Lost) else 2)


if __name__ == "__main__":
    sys.exit(main())
