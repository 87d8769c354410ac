//! Pinning files and ending it. The end needs nothing of the host but which files are meant: without it, those count that
//! some program looked at.

use std::collections::HashSet;

use engine::cache::{FileKey, L2, l2::PINS_MAX};

use super::{Keeper, NO_BIRTH, Tell, out_of_reach, problem, words};
use crate::{
    control::message::{Done, Event, Progress},
    error::VfsError,
    vfs::{
        seen::Seen,
        walk::{Step, Walk},
    },
};

/// Pins the files that `paths` name. Runs on the lane.
pub(super) async fn pin(
    keeper: &Keeper,
    disk: &L2,
    paths: Vec<Vec<u8>>,
    tell: &Tell,
) -> Result<Done, String> {
    let mut set = Pins { keeper, disk, tell, is_pin: true, files: HashSet::new(), done: Done::default() };
    for path in &paths {
        set.walk(path).await?.map_err(|error| out_of_reach(&error))?;
    }
    set.finish().await
}

/// Ends the pins of the files that `paths` name. Runs on the lane.
pub(super) async fn unpin(
    keeper: &Keeper,
    disk: &L2,
    paths: Vec<Vec<u8>>,
    tell: &Tell,
) -> Result<Done, String> {
    let mut set = Pins { keeper, disk, tell, is_pin: false, files: HashSet::new(), done: Done::default() };
    for (index, path) in paths.iter().enumerate() {
        if keeper.vfs.is_cut_off() || set.walk(path).await?.is_err() {
            set.seen(&paths[index..]).await?;
            break;
        }
    }
    set.finish().await
}

struct Pins<'a> {
    keeper: &'a Keeper,
    disk: &'a L2,
    tell: &'a Tell,
    is_pin: bool,
    /// Set at the end, all with one write.
    files: HashSet<FileKey>,
    done: Done,
}

impl Pins<'_> {
    /// Takes in what is found on the host; the inner error is for want of it.
    async fn walk(&mut self, path: &[u8]) -> Result<Result<(), VfsError>, String> {
        let mut walk = Walk::new(&self.keeper.vfs, path, self.keeper.deadline);
        loop {
            let walked = match walk.next().await {
                Ok(Some(Step::File(walked))) => walked,
                Ok(Some(Step::Problem { path, error })) => {
                    self.missing(path, words(&error)).await;
                    continue;
                }
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            };
            let (share, id) = (&walked.file.share, &walked.file.id);
            match self.keeper.vfs.reads().file_on_disk(share, id) {
                Some(file) => self.add(file).await?,
                None => self.missing(walked.path, NO_BIRTH.to_owned()).await,
            }
        }
    }

    /// Takes in what programs looked at, without the host.
    async fn seen(&mut self, paths: &[Vec<u8>]) -> Result<(), String> {
        let (files, each) = self.keeper.vfs.seen(paths);
        for seen in files {
            if let Some(file) = self.keeper.vfs.reads().file_on_disk(&seen.share, &seen.id) {
                self.add(file).await?;
            }
        }
        for (path, seen) in paths.iter().zip(each) {
            let reason = match seen {
                Seen::File => continue,
                Seen::Below => {
                    "the host is out of reach, so only files looked at since the mount began are known: \
                     unpin it again once `wormhole status` shows it connected"
                }
                Seen::Nothing => {
                    "the host is out of reach, and nothing has looked at it since the mount began: \
                     try again once `wormhole status` shows it connected"
                }
            };
            self.missing(path.clone(), reason.to_owned()).await;
        }
        Ok(())
    }

    async fn add(&mut self, file: FileKey) -> Result<(), String> {
        if !self.files.insert(file) {
            return Ok(());
        }
        self.done.files += 1;
        if self.files.len() > PINS_MAX {
            // No more than these can be pinned: this says so, or makes room for the rest.
            self.set().await?;
        }
        drop(self.tell.try_send(Event::Progress(Progress { items: self.done.files, ..Progress::default() })));
        Ok(())
    }

    async fn set(&mut self) -> Result<(), String> {
        let files = self.files.drain().collect();
        let set = if self.is_pin { self.disk.pin_all(files).await } else { self.disk.unpin_all(files).await };
        set.map_err(|error| error.to_string())
    }

    async fn finish(mut self) -> Result<Done, String> {
        self.set().await?;
        Ok(self.done)
    }

    async fn missing(&mut self, path: Vec<u8>, reason: String) {
        self.done.missing += 1;
        problem(self.tell, path, reason).await;
    }
}
