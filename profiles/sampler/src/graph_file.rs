//! The file of a picture: known to be writable from the start, and never half written.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process,
};

use crate::SamplerError;

/// A file to be written, once or again, at some later time.
///
/// It is replaced as a whole: a reader sees the old picture or the new one.
#[derive(Clone, Debug)]
pub struct GraphFile {
    path: PathBuf,
    temporary: PathBuf,
}

impl GraphFile {
    /// The file `path`, in a folder that takes files now. An old picture stays until there is a new one.
    ///
    /// # Errors
    /// [`SamplerError::Write`] where nothing could be written there.
    pub fn at(path: PathBuf) -> Result<GraphFile, SamplerError> {
        match temporary(&path) {
            Ok(temporary) => Ok(GraphFile { path, temporary }),
            Err(source) => Err(SamplerError::Write { path, source }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes `picture` its content.
    ///
    /// # Errors
    /// [`SamplerError::Write`]; the old content is as it was.
    pub fn write(&self, picture: &[u8]) -> Result<(), SamplerError> {
        let written =
            fs::write(&self.temporary, picture).and_then(|()| fs::rename(&self.temporary, &self.path));
        written.map_err(|source| {
            // What is left over is of no use; the first error is the one to tell.
            drop(fs::remove_file(&self.temporary));
            SamplerError::Write { path: self.path.clone(), source }
        })
    }
}

/// The name under which `path` is written at first, once it is sure that it can be.
fn temporary(path: &Path) -> io::Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::other("it names no file"));
    };
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.new", process::id()));
    let temporary = path.with_file_name(hidden);
    fs::write(&temporary, [])?;
    fs::remove_file(&temporary)?;
    Ok(temporary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_replaces_the_one_before_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cpu.svg");
        let file = GraphFile::at(path.clone()).unwrap();
        assert!(!path.exists(), "nothing before the first picture");
        file.write(b"one").unwrap();
        file.write(b"two").unwrap();
        assert_eq!(fs::read(file.path()).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_takes_no_file_is_known_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: PathBuf| GraphFile::at(path).unwrap_err().to_string();
        assert!(refused(folder.path().join("absent/cpu.svg")).contains("absent/cpu.svg"));
        assert!(refused(folder.path().to_owned()).contains("directory"));
        assert!(refused(PathBuf::from("/")).contains("names no file"));
        assert!(refused(PathBuf::from("/proc/cpu.svg")).contains("choose another place"));
    }

    #[test]
    fn a_folder_that_went_away_is_an_error_of_the_write() {
        let folder = tempfile::tempdir().unwrap();
        let file = GraphFile::at(folder.path().join("cpu.svg")).unwrap();
        folder.close().unwrap();
        assert!(matches!(file.write(b"late"), Err(SamplerError::Write { .. })));
    }
}
