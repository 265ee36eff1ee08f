"""Region features of a frozen detector, computed once and kept: training and evaluation without the network.

Read ``cache.py`` first (making), then ``samples.py``, ``training.py`` and ``evaluation.py`` (using).
"""
