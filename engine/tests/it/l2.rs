//! The disk cache on a real directory, through a real ring.

mod evict;
mod life;
mod shelf;
