//! The protection of QUIC packets, with the keys and the cipher that a session has, and without a session.

use rustls::{
    Side,
    crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
    quic::{Keys, PacketKey, Version},
};

/// Of a packet's bytes, those that are not protected: a short header.
const HEADER: usize = 13;

/// A packet of known bytes that is sealed and opened again.
pub struct Packet {
    sender: Box<dyn PacketKey>,
    receiver: Box<dyn PacketKey>,
    number: u64,
    header: [u8; HEADER],
    payload: Vec<u8>,
}

impl Packet {
    /// One of so many bytes on the wire, its header and tag included.
    ///
    /// # Panics
    /// When they do not fit, or the cipher is not for QUIC.
    pub fn new(bytes: usize) -> Packet {
        let suite = TLS13_AES_128_GCM_SHA256.tls13().and_then(|suite| suite.quic_suite());
        let suite = suite.expect("a cipher of QUIC");
        let keys = |side| -> Keys { suite.keys(&[7; 8], side, Version::V1) };
        let (sender, receiver) = (keys(Side::Client).local.packet, keys(Side::Server).remote.packet);
        let payload = vec![7; bytes - HEADER - sender.tag_len()];
        Packet { sender, receiver, number: 0, header: [1; HEADER], payload }
    }

    /// Seals it and opens it, in place, as the next of its session.
    ///
    /// # Panics
    /// When what comes out is not what went in.
    pub fn seal_and_open(&mut self) {
        self.number += 1;
        let tag = self.sender.encrypt_in_place(self.number, &self.header, &mut self.payload);
        let plain = self.payload.len();
        self.payload.extend_from_slice(tag.expect("a key that is not worn").as_ref());
        let opened = self.receiver.decrypt_in_place(self.number, &self.header, &mut self.payload);
        assert_eq!(opened.expect("the same key").len(), plain);
        self.payload.truncate(plain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_as_it_was() {
        let mut packet = Packet::new(1452);
        packet.seal_and_open();
        packet.seal_and_open();
        assert!(packet.payload.iter().all(|&byte| byte == 7));
    }
}
