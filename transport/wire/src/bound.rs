//! What bounds a session: why it is not faster than it is.

use std::fmt;

/// The one thing that most of a session's time was bound by. In this order the first that holds for half of the time is
/// named: what comes later waits for what comes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// The host's congestion window, which follows Cubic: the path loses what is more.
    Cubic,
    /// The same, which follows BBR: the path carries no more.
    Bbr,
    /// What the mount has room to receive.
    ReceiveWindow,
    /// Bytes the host sends of one session before they are acked.
    SendWindow,
    /// The host's disk: what the page cache does not hold.
    Disk,
    /// Memory for contents: the pool has no free buffer.
    Memory,
    /// The rate that one mount may have.
    SessionRate,
    /// The rate that all mounts may have.
    HostRate,
    /// Answers that one mount may have under way.
    SessionAnswers,
    /// Answers that a host may have under way.
    HostAnswers,
    /// Requests that one mount may have under way.
    Requests,
    /// Nothing holds it up: requests are under way, too few at once for the round trip that each takes.
    RoundTrip,
    /// Programs ask for nothing, most of the time.
    Application,
}

/// Each with its number on the wire, which is never reused, and its name for programs.
const ALL: [(Bound, u8, &str); Bound::COUNT] = [
    (Bound::Cubic, 1, "congestion_cubic"),
    (Bound::Bbr, 2, "congestion_bbr"),
    (Bound::ReceiveWindow, 3, "receive_window"),
    (Bound::SendWindow, 4, "send_window"),
    (Bound::Disk, 5, "disk"),
    (Bound::Memory, 6, "memory"),
    (Bound::SessionRate, 7, "mount_bandwidth"),
    (Bound::HostRate, 8, "host_bandwidth"),
    (Bound::SessionAnswers, 9, "mount_answers"),
    (Bound::HostAnswers, 10, "host_answers"),
    (Bound::Requests, 11, "request_window"),
    (Bound::RoundTrip, 12, "round_trip"),
    (Bound::Application, 13, "application"),
];

impl Bound {
    /// How many there are.
    pub const COUNT: usize = 13;

    /// All, in the order in which they are looked at.
    pub fn all() -> impl Iterator<Item = Bound> {
        ALL.iter().map(|(bound, ..)| *bound)
    }

    /// On the wire.
    pub fn number(self) -> u8 {
        self.entry().1
    }

    /// From the wire; `None` where the host does not say, or names one of a newer version.
    pub fn from_number(number: u8) -> Option<Bound> {
        ALL.iter().find(|(_, known, _)| *known == number).map(|(bound, ..)| *bound)
    }

    /// For programs.
    pub fn as_str(self) -> &'static str {
        self.entry().2
    }

    fn entry(self) -> &'static (Bound, u8, &'static str) {
        &ALL[self as usize]
    }
}

/// For people.
impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bound::Cubic => "the congestion window (Cubic)",
            Bound::Bbr => "the congestion window (BBR)",
            Bound::ReceiveWindow => "the mount's receive window",
            Bound::SendWindow => "the host's send window",
            Bound::Disk => "the host's disk",
            Bound::Memory => "memory",
            Bound::SessionRate => "the bandwidth of one mount",
            Bound::HostRate => "the bandwidth of the host",
            Bound::SessionAnswers => "answers under way to one mount",
            Bound::HostAnswers => "answers under way from the host",
            Bound::Requests => "requests under way of one mount",
            Bound::RoundTrip => "the round trip",
            Bound::Application => "the programs, which ask for little",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stands_at_its_place_and_has_a_number_of_its_own() {
        for (at, (bound, number, _)) in ALL.iter().enumerate() {
            assert_eq!((*bound as usize, Bound::from_number(*number)), (at, Some(*bound)));
        }
        assert_eq!((Bound::from_number(0), Bound::from_number(200)), (None, None));
    }
}
