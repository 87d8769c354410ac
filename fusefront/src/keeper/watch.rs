//! Watching for a client: what the vfs sees, as events.

use wire::Changes;

use super::{Keeper, Tell, out_of_reach};
use crate::{
    control::message::{Changed, Done, Event, Happened, Problem},
    error::VfsError,
    vfs::watch::{Seen, Watch},
};

/// Each bit of a change, and its word.
const WORDS: [(Changes, Happened); 4] = [
    (Changes::REMOVED, Happened::Removed),
    (Changes::CREATED, Happened::Created),
    (Changes::CONTENT, Happened::Contents),
    (Changes::ATTR, Happened::Attributes),
];

/// Tells what changes at `path` and below until the mount ends. Runs on the lane; a dropped future ends it.
pub(super) async fn watch(keeper: &Keeper, path: &[u8], tell: &Tell) -> Result<Done, String> {
    let mut watch = Watch::new(&keeper.vfs, path, keeper.deadline).map_err(|error| words(&error))?;
    watch.begin().await.map_err(|error| words(&error))?;
    while let Some(seen) = watch.next().await.map_err(|error| words(&error))? {
        let event = match seen {
            Seen::Watching(folders) => Event::Watching(folders as u64),
            Seen::Changed(path, what) => Event::Changed(Changed { path, what: happened(what) }),
            Seen::Missed(path, reason) => Event::Problem(Problem { path, reason }),
        };
        // Who does not listen any more is noticed by the thread that tells him.
        let _ = tell.send(event).await;
    }
    Ok(Done::default())
}

fn happened(what: Changes) -> Vec<Happened> {
    WORDS.iter().filter(|(bit, _)| what.contains(*bit)).map(|(_, word)| *word).collect()
}

fn words(error: &VfsError) -> String {
    match error {
        VfsError::NoSuchName => "the host has no such file or folder".to_owned(),
        error => out_of_reach(error),
    }
}
