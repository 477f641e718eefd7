//! Features: their identifiers and the encodings of their values (NVMe Base 2.1, 5.1.25).
