//! [`Sampler`] without the feature `pprof`: there is none.

use std::convert::Infallible;

use crate::SamplerError;

/// A profiler that was not built in: no value of it exists.
#[derive(Debug)]
pub struct Sampler(Infallible);

impl Sampler {
    /// Says how to build one in.
    ///
    /// # Errors
    /// [`SamplerError::NotBuiltIn`], always.
    pub fn start() -> Result<Sampler, SamplerError> {
        Err(SamplerError::NotBuiltIn)
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn flamegraph(&self, _title: &str) -> Result<Vec<u8>, SamplerError> {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_absence_says_how_to_build_it_in() {
        let error = Sampler::start().unwrap_err();
        assert!(error.to_string().contains("--features pprof"), "{error}");
    }
}
