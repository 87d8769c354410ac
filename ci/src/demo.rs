//! `cargo ci demo`.

use std::path::Path;

use crate::failure::Failure;
use crate::repo::Repo;

/// Shows the product at work.
pub(crate) fn run(_repo: &Repo, _folder: Option<&Path>) -> Result<(), Failure> {
    Err("demo: comes with the next commit".to_owned().into())
}
