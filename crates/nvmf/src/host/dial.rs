//! Making connections: the transport of every queue of an association.
