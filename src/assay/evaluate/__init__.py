"""The scores of a run: lm-eval in process, from a local mirror of the benchmarks or from the hub.

The one part that imports lm_eval, and only inside the functions that need it.
"""
