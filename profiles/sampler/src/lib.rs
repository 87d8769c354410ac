//! The CPU profiler inside a process: the stacks of the threads that run, sampled and drawn as a flamegraph.
//!
//! [`Sampler`] samples, [`GraphFile`] is where its picture goes. Without the feature `pprof`, [`Sampler::start`] is an
//! error; all else is the same. The README of `profiles` says how to read a picture.
#![forbid(unsafe_code)]

#[cfg(not(feature = "pprof"))]
mod absent;
mod error;
mod graph_file;
#[cfg(feature = "pprof")]
mod sampler;

#[cfg(not(feature = "pprof"))]
pub use absent::Sampler;
pub use error::SamplerError;
pub use graph_file::GraphFile;
#[cfg(feature = "pprof")]
pub use sampler::Sampler;
