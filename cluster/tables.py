"""How RocksDB is set up: memory, tables, compaction."""

from __future__ import annotations

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, Options

from cluster.interface import RAFT_LOG, RAFT_META

# Memory. Default memtables (64 MB x 2 per family) stalled the event loop for 340-390 ms
# when an fsync was slow under load; small ones, many of them, kept it to 6-18 ms. The sum
# over all families is capped: eight families must not take eight times as much.
_MEMTABLE_BYTES = 16 << 20
_MEMTABLES_MAX = 8
_MEMTABLES_TOTAL_BYTES = 64 << 20
BLOCK_CACHE_BYTES = 16 << 20
# A family that is rarely written pins the write-ahead log from its oldest unflushed record;
# without a bound the log of all families grows to gigabytes and so does recovery.
_WAL_TOTAL_BYTES = 256 << 20
# One needless read in a hundred look-ups of an unknown id (0.6 us): every submit asks.
_BLOOM_BITS_PER_KEY = 10
# Marks of deleted records, 2 us each for every reader that passes, stay until a compaction.
# A table with so many of them among so many records is compacted as soon as it is there.
_DELETED_WINDOW = 4096
_DELETED_MIN = 2048
_BACKGROUND_THREADS = 2
_OPEN_FILES_MAX = 512
_INFO_LOGS_KEPT = 3
_INFO_LOG_BYTES = 4 << 20


def database_options() -> Options:
    """Return those of a whole database."""
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    # Any other mode either refuses after every power cut (a torn last record) or hides
    # less; what this one hides, the high-water mark shows.
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    options.set_paranoid_checks(True)
    options.set_max_total_wal_size(_WAL_TOTAL_BYTES)
    options.set_db_write_buffer_size(_MEMTABLES_TOTAL_BYTES)
    options.increase_parallelism(_BACKGROUND_THREADS)
    options.set_max_open_files(_OPEN_FILES_MAX)
    options.set_keep_log_file_num(_INFO_LOGS_KEPT)
    options.set_max_log_file_size(_INFO_LOG_BYTES)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


def family_options(family: str, cache: Cache) -> Options:
    """Return those of one family; blocks that were read are kept in `cache`."""
    options = Options(raw_mode=True)
    options.set_write_buffer_size(_MEMTABLE_BYTES)
    options.set_max_write_buffer_number(_MEMTABLES_MAX)
    # Log entries are mostly truncated before they ever reach a table; records stay for days.
    consensus = family in {RAFT_LOG, RAFT_META}
    options.set_compression_type(DBCompressionType.none() if consensus else DBCompressionType.lz4())
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_bloom_filter(_BLOOM_BITS_PER_KEY, False)
    options.set_block_based_table_factory(table)
    options.add_compact_on_deletion_collector_factory(_DELETED_WINDOW, _DELETED_MIN, 0.0)
    return options
