//! Log pages and the command that reads them (NVMe Base 2.1, 5.1.12).
