"""Run the command `assay` as `python -m assay`."""

from assay.cli.main import main

if __name__ == "__main__":
    main()
