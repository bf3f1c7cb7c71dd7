"""The command `fastnn`: demo, check and info."""

import argparse
import contextlib
import os
import signal
import sys

import fastnn


def main(arguments=None):
    """Run a subcommand; returns the exit status. As a command, without arguments, it is ended by what interrupts it."""
    if arguments is None and hasattr(sys.stdout, "reconfigure"):
        # Names of files and of the CPU may have characters that the terminal has not.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = _run(arguments)
        # Here, not at exit, where Python would print that it failed. There is no stdout if it was closed.
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        if arguments is not None:
            raise
        # By the signal itself, as who started this expects it, but without a traceback; not by a second one before.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Who reads has seen enough, as in `fastnn check | head`; what is still to be flushed at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _at_least(least):
    """What makes a whole number of an argument."""

    def convert(text):
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, got {number}")
        return number

    # argparse says "invalid whole number value".
    convert.__name__ = "whole number"
    return convert


def _run(arguments):
    parser = argparse.ArgumentParser(prog="fastnn", description="Dense neural networks as Numba kernels.")
    parser.add_argument("--version", action="version", version=f"fastnn {fastnn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="train a classifier on scanned digits and draw what it learned")
    demo.add_argument("--output", default="fastnn-demo.png", help="where the picture goes (%(default)s)")
    demo.add_argument("--epochs", type=_at_least(1), default=60, help="passes over the training data (%(default)s)")
    check = commands.add_parser("check", help="compare kernels with NumPy references on this machine, and time them")
    check.add_argument("names", nargs="*", help="kernels to check; all if none is named")
    check.add_argument("--exhaustive", action="store_true", help="activations on all 2^32 float32 inputs: worst ULP")
    only = check.add_argument_group("with --exhaustive")
    only.add_argument("--sample", type=_at_least(1), metavar="N", help="about N float32 inputs of each function")
    only.add_argument("--float64", type=_at_least(0), metavar="N", help="N float64 inputs of each function (10^8)")
    only.add_argument("--dtype", choices=("float32", "float64"), help="one of the two tables alone")
    only.add_argument("--markdown", metavar="FILE", help="renew the tables in this file")
    commands.add_parser("info", help="versions, CPU, vectors, threads and cache folder")
    options = parser.parse_args(arguments)

    # Only the chosen command is imported: `info` should not wait for what `demo` needs.
    if options.command == "demo":
        from .demo import check_output, run

        # Before some seconds of training, not after.
        try:
            check_output(options.output)
        except (ImportError, OSError, ValueError) as error:
            demo.error(str(error))
        return run(options.output, options.epochs)
    if options.command == "check":
        numbers = {"sample": options.sample, "count64": options.float64, "markdown": options.markdown}
        numbers["dtypes"] = options.dtype and [options.dtype]
        given = {name: value for name, value in numbers.items() if value is not None}
        if options.exhaustive:
            from .accuracy import around_tables, run

            # Before some hours of computing, not after.
            if options.markdown is not None:
                if options.names:
                    check.error("--markdown: expected no names with it, the tables are of all activations")
                try:
                    around_tables(options.markdown)
                except ValueError as error:
                    check.error(f"--markdown: {error}, got {options.markdown!r}")
            return run(options.names, **given)
        if given:
            check.error("--sample, --float64, --dtype and --markdown go with --exhaustive")
        from .check import run

        return run(options.names)
    from .info import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
