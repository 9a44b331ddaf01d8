"""The network, its weights as files, and which models there are."""
