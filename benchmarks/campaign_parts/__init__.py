"""The parts of ``benchmarks/campaign.py``; each has ``cases``, which lists what is tried, and ``run``, which tries one of them."""
