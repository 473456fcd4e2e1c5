"""What stands between the network and the models: keys, limits, TLS, and the access log."""
