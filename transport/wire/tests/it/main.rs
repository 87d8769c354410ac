//! Integration tests of wormhole-wire.
