"""Store external results (long tables, lm-eval files, W&B runs) and compare their mixes."""
