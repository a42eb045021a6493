"""Check of training, resume, evaluation and packing on one GPU: `make gpu-check`."""
