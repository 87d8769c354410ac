//! How the owner of a host reaches it while it runs.

pub(crate) mod desk;
