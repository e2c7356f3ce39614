"""Language models: loading, the network, attention, value head, export; and the embedded model ``tiny``."""
