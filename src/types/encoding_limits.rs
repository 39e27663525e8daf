//! Limits at which values change from one encoding to another.

/// Thresholds of the encodings, from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest number of fields in a hash kept as a listpack.
    pub hash_max_listpack_entries: usize,
    /// Longest field or value in a hash kept as a listpack, in bytes.
    pub hash_max_listpack_value: usize,
    /// Size of a list node: a positive number counts elements, -1 to -5 mean 4, 8, 16, 32 and 64 KB.
    pub list_max_listpack_size: i32,
    /// Uncompressed list nodes at each end; 0 compresses none.
    pub list_compress_depth: u32,
    /// Largest number of members in a set kept as an intset.
    pub set_max_intset_entries: usize,
    /// Largest number of members in a set kept as a listpack.
    pub set_max_listpack_entries: usize,
    /// Longest member of a set kept as a listpack, in bytes.
    pub set_max_listpack_value: usize,
    /// Largest number of members in a sorted set kept as a listpack.
    pub zset_max_listpack_entries: usize,
    /// Longest member of a sorted set kept as a listpack, in bytes.
    pub zset_max_listpack_value: usize,
    /// Longest sparse HyperLogLog, in bytes.
    pub hll_sparse_max_bytes: usize,
    /// Size of a stream node in bytes; 0 for no limit.
    pub stream_node_max_bytes: usize,
    /// Largest number of entries in a stream node; 0 for no limit.
    pub stream_node_max_entries: u64,
    /// Length in bytes from which a list element gets a node of its own, whatever the node size allows.
    pub list_packed_threshold: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            hash_max_listpack_entries: 512,
            hash_max_listpack_value: 64,
            list_max_listpack_size: -2,
            list_compress_depth: 0,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            hll_sparse_max_bytes: 3000,
            stream_node_max_bytes: 4096,
            stream_node_max_entries: 100,
            list_packed_threshold: 1 << 30,
        }
    }
}
