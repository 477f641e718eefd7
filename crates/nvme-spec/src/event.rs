//! Asynchronous events: what completes an Asynchronous Event Request (NVMe Base 2.1, 5.1.2).
