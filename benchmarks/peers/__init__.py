"""One process per peer, each speaking the protocol of `benchmarks.peer_protocol`."""
