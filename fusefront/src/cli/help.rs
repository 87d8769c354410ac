//! The topics of `wormhole help`.

use engine::cli::topics::Topic;

/// All of them, in the order to read them.
pub(super) const TOPICS: [Topic; 10] = [
    Topic {
        name: "tickets",
        about: "what opens a share, and how to hand it over",
        text: include_str!("help/tickets.txt"),
    },
    Topic {
        name: "disconnect",
        about: "what programs get while the host is gone",
        text: include_str!("help/disconnect.txt"),
    },
    Topic { name: "performance", about: "making it fast", text: include_str!("help/performance.txt") },
    Topic {
        name: "caching",
        about: "what is kept in memory, and how old it may be",
        text: include_str!("help/caching.txt"),
    },
    Topic {
        name: "cache",
        about: "the cache on the disk: filling, pinning, checking, emptying it",
        text: include_str!("help/cache.txt"),
    },
    Topic {
        name: "fstab",
        about: "mounts by mount(8), at boot, as a service",
        text: include_str!("help/fstab.txt"),
    },
    Topic {
        name: "config",
        about: "flags, environment, configuration file",
        text: concat!(include_str!("help/config.txt"), include_str!("../../mount.example.toml")),
    },
    Topic {
        name: "metrics",
        about: "counters for Prometheus",
        text: concat!(include_str!("help/metrics.txt"), include_str!("../../METRICS.md")),
    },
    Topic {
        name: "security",
        about: "what is protected, and from whom",
        text: include_str!("help/security.txt"),
    },
    Topic {
        name: "troubleshooting",
        about: "when it does not work; reading logs",
        text: include_str!("help/troubleshooting.txt"),
    },
];
