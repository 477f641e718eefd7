//! Associations: an admin queue, its I/O queues, and the controller behind them.
