"""One process a peer, each speaking the protocol of `benchmarks.protocol`."""
