//! The Identify data structures (NVMe Base 2.1, 5.1.13).
