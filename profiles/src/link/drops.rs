//! What the kernel dropped because a socket's buffer was full: proc(5), `/proc/net/udp`, column `drops`.

use std::fs;
use std::os::fd::AsFd;

/// The number by which the kernel's tables name a socket; 0, which no socket has, where it cannot be told.
pub(super) fn inode_of(socket: impl AsFd) -> u64 {
    rustix::fs::fstat(socket).map_or(0, |stat| stat.st_ino)
}

/// Datagrams dropped so far by the sockets of `inodes` that are still open.
pub(super) fn of_sockets(inodes: &[u64]) -> u64 {
    let tables = ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"];
    // A table that cannot be read (no IPv6) counts nothing.
    tables.iter().map(|table| fs::read_to_string(table).map_or(0, |text| in_table(&text, inodes))).sum()
}

fn in_table(text: &str, inodes: &[u64]) -> u64 {
    let rows = text.lines().skip(1).filter_map(|row| {
        let columns: Vec<&str> = row.split_ascii_whitespace().collect();
        let inode = columns.get(9)?.parse().ok()?;
        inodes.contains(&inode).then(|| columns.last()?.parse::<u64>().ok())?
    });
    rows.sum()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_table_is_read_by_inode() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                    \x20 12: 0100007F:1151 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 17\n\
                    \x20 13: 0100007F:1152 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 5\n";
        assert_eq!(in_table(text, &[4711]), 17);
        assert_eq!(in_table(text, &[4711, 4712]), 22);
        assert_eq!(in_table(text, &[1]), 0);
    }

    #[test]
    fn a_socket_that_is_not_read_is_seen_to_drop() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = inode_of(&socket);
        assert_eq!(of_sockets(&[inode]), 0);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..2000 {
            sender.send_to(&[0; 8192], socket.local_addr().unwrap()).unwrap();
        }
        assert!(of_sockets(&[inode]) > 0);
    }
}
