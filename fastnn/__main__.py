"""The command `fastnn`: demo, check and info."""

import argparse
import sys


def main(arguments=None):
    """Run a subcommand; returns the exit status."""
    parser = argparse.ArgumentParser(prog="fastnn", description="Dense neural networks as Numba kernels.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="train a classifier on scanned digits and draw what it learned")
    demo.add_argument("--output", default="fastnn-demo.png", help="where the picture goes (%(default)s)")
    demo.add_argument("--epochs", type=int, default=60, help="passes over the training data (%(default)s)")
    check = commands.add_parser("check", help="run every kernel against its NumPy reference on this machine")
    check.add_argument("names", nargs="*", help="kernels to check; all if none is named")
    check.add_argument("--exhaustive", action="store_true", help="activations on all 2^32 float32 inputs: worst ULP")
    check.add_argument("--sample", type=int, metavar="N", help="with --exhaustive: about N float32 inputs of each")
    check.add_argument(
        "--float64",
        type=int,
        default=10**6,
        metavar="N",
        help="with --exhaustive: N float64 inputs of each (%(default)s)",
    )
    check.add_argument("--markdown", metavar="FILE", help="with --exhaustive: renew the tables in this file")
    commands.add_parser("info", help="versions, CPU, vectors, threads and cache folder")
    options = parser.parse_args(arguments)

    # Only the chosen command is imported: `info` should not wait for what `demo` needs.
    if options.command == "demo":
        from .demo import run

        return run(options.output, options.epochs)
    if options.command == "check" and options.exhaustive:
        from .accuracy import run

        return run(options.names, options.sample, options.float64, options.markdown)
    if options.command == "check":
        from .check import run

        return run(options.names)
    from .info import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
