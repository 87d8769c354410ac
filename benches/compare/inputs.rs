//! The files that every tool reads, and their bytes in the host's page cache.

use std::{
    error::Error,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use wormhole_benches::{
    Corpus,
    corpus::{Files, name},
};

use crate::{plan::Plan, workload::Workload};

const BIG_BYTES: u64 = 1 << 30;
const BIG_BYTES_QUICK: u64 = 256 << 20;
const STREAMS: usize = 4;
const SMALL: usize = 10_000;
const SMALL_QUICK: usize = 2000;
const SMALL_BYTES: u64 = 10 << 10;
/// Files to look at and to begin to read.
const MANY: Files = Files { count: 1000, bytes: 64 << 10 };

/// Where they are, below the folder that is served or below a mount of it.
#[derive(Debug)]
pub(crate) struct Paths {
    /// One file, of [`Paths::big_bytes`].
    pub(crate) big: PathBuf,
    pub(crate) big_bytes: u64,
    pub(crate) streams: Vec<PathBuf>,
    /// A folder of 1,000 files.
    pub(crate) many_folder: PathBuf,
    pub(crate) many: Vec<PathBuf>,
    pub(crate) small: Vec<PathBuf>,
}

/// The files as they are on this machine.
pub(crate) struct Inputs {
    root: PathBuf,
    paths: Arc<Paths>,
}

impl Inputs {
    /// Makes what is not there yet.
    pub(crate) fn prepare(plan: &Plan) -> Result<Inputs, Box<dyn Error>> {
        let corpus = Corpus::open()?;
        let (big_bytes, small) =
            if plan.is_quick { (BIG_BYTES_QUICK, SMALL_QUICK) } else { (BIG_BYTES, SMALL) };
        let of = |files: Files| -> io::Result<(PathBuf, Vec<PathBuf>)> {
            let folder = corpus.folder(files)?;
            Ok((folder.clone(), (0..files.count).map(|at| folder.join(name(at))).collect()))
        };
        let (_, streams) = of(Files { count: STREAMS, bytes: big_bytes / STREAMS as u64 })?;
        let (many_folder, many) = of(MANY)?;
        let (_, small) = of(Files { count: small, bytes: SMALL_BYTES })?;
        let big = corpus.file(big_bytes)?;
        let paths = Paths { big, big_bytes, streams, many_folder, many, small };
        Ok(Inputs { root: corpus.root().to_owned(), paths: Arc::new(paths) })
    }

    /// The folder to serve.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn paths(&self) -> Arc<Paths> {
        self.paths.clone()
    }

    /// Takes out of the page cache what other work left there: a virtual machine full of it answers writes to FUSE slower
    /// (free page reporting). Where this does not run as root it stays.
    pub(crate) fn clear_page_cache(&self) {
        // What is not written back cannot be dropped, and is little.
        let _ = fs::write("/proc/sys/vm/drop_caches", "1");
    }

    /// Reads what a workload is about to read: the page cache of the host is warm in every pass.
    pub(crate) fn warm(&self, workload: Workload) -> io::Result<()> {
        let Paths { big, streams, many, small, .. } = &*self.paths;
        let files: &[PathBuf] = match workload {
            Workload::Sequential | Workload::Random | Workload::RandomTogether => std::slice::from_ref(big),
            Workload::Streams => streams,
            Workload::FirstByte | Workload::Stat | Workload::List => many,
            Workload::Small | Workload::SmallTogether | Workload::Verify => small,
        };
        for path in files {
            io::copy(&mut File::open(self.root.join(path))?, &mut io::sink())?;
        }
        Ok(())
    }
}
