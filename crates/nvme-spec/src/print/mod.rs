//! Printing: one mechanism for tables, JSON and tracing.
