"""``python -m pyln bench``: lnorm beside the limit of memory and beside its peers, in one run."""

# As for pyln itself: a checkout finds its compiled part where `pip install .` put it.
__path__ = __import__("pkgutil").extend_path(__path__, __name__)
