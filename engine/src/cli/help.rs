//! The topics of `wormhole-engine help`.

use super::topics::Topic;

/// All of them, in the order to read them.
pub(super) const TOPICS: [Topic; 9] = [
    Topic {
        name: "tickets",
        about: "who may read what: the password of a mount",
        text: include_str!("help/tickets.txt"),
    },
    Topic {
        name: "shares",
        about: "the folders a host serves, and what of them",
        text: include_str!("help/shares.txt"),
    },
    Topic { name: "limits", about: "what mounts may use up", text: include_str!("help/limits.txt") },
    Topic {
        name: "config",
        about: "flags, environment, configuration file",
        text: concat!(include_str!("help/config.txt"), include_str!("../../host.example.toml")),
    },
    Topic {
        name: "metrics",
        about: "counters for Prometheus",
        text: concat!(include_str!("help/metrics.txt"), include_str!("../../METRICS.md")),
    },
    Topic { name: "systemd", about: "a host as a service", text: include_str!("help/systemd.txt") },
    Topic { name: "firewall", about: "ports, routers, addresses", text: include_str!("help/firewall.txt") },
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
