"""`python -m penstock_dev` is `penstock-dev`."""

from penstock_dev.cli import main

main()
