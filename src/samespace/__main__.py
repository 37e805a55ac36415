"""`python -m samespace`, which torchrun needs."""

from samespace.cli.main import main

if __name__ == "__main__":
    main()
