"""Score runs with lm-eval in process, on data sets from a local mirror or the hub.

No other package imports lm_eval. This package imports lm_eval only inside the functions that need it.
"""
