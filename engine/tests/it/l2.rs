//! The disk cache on a real directory, through a real ring or over a disk that fails.

mod evict;
mod fail;
mod kill;
mod life;
mod share;
mod shelf;
