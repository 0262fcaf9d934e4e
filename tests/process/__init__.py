"""Tests on real processes: real sockets, real RocksDB, real signals."""
