if __name__ == "__main__":  # not in the worker processes, which import this module too
    import sys

    from experiments.cli import main

    sys.exit(main())
