//! Where values change from one encoding to another.

/// Thresholds of the encodings, from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fields of the longest hash kept as a listpack.
    pub hash_max_listpack_entries: usize,
    /// Bytes of the longest field or value in it.
    pub hash_max_listpack_value: usize,
    /// Size of a list node: positive counts elements, -1 to -5 mean 4, 8, 16, 32 and 64 KB.
    pub list_max_listpack_size: i32,
    /// List nodes at each end left uncompressed; 0 compresses none.
    pub list_compress_depth: u32,
    /// Members of the longest set of integers kept as an intset.
    pub set_max_intset_entries: usize,
    /// Members of the longest set kept as a listpack.
    pub set_max_listpack_entries: usize,
    /// Bytes of the longest member in it.
    pub set_max_listpack_value: usize,
    /// Members of the longest sorted set kept as a listpack.
    pub zset_max_listpack_entries: usize,
    /// Bytes of the longest member in it.
    pub zset_max_listpack_value: usize,
    /// Bytes of the longest sparse HyperLogLog.
    pub hll_sparse_max_bytes: usize,
    /// Bytes of a stream node; 0 for no limit.
    pub stream_node_max_bytes: usize,
    /// Entries of a stream node; 0 for no limit.
    pub stream_node_max_entries: u64,
    /// Bytes from which a list element gets a node of its own, whatever the node size allows.
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
