//! Links between real sockets.

mod udp;
