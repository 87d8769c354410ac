//! Names that came to be, and that may be one more name of a file which mounts know under another.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use wire::{Change, FileId, FileKind, Push, SharePath};

use super::session::{Leases, ToTell};
use crate::{
    error::Fault,
    share::{Place, Scope},
    work::Work,
};

/// How long a look at new names may take; past it, every lease of the session goes.
const LOOK_DEADLINE: Duration = Duration::from_secs(1);

impl Leases {
    /// Waits for the next push, and looks at the names in it that may be links.
    pub(crate) async fn next_push(&self, work: &Work) -> Push {
        let ToTell { due, dir } = self.to_tell().await;
        let (mut push, links) = (due.push, due.links);
        let (Push::Changed { changes, .. }, Some((scope, dir))) = (&mut push, dir) else { return push };
        let unseen = look_in_memory(&scope, &dir, changes, &links);
        if !unseen.is_empty() && look(work, scope, dir, changes, unseen).await.is_err() {
            // What else those names may be names of is not known.
            self.revoke_all();
        }
        push
    }
}

/// Looks at the names without waiting; those for which that does not do.
fn look_in_memory(scope: &Scope, dir: &SharePath, changes: &mut [Change], links: &[usize]) -> Vec<usize> {
    let mut unseen = Vec::new();
    for &at in links {
        // A path that is too long for the wire is no mount's.
        let Ok(path) = dir.join(&changes[at].name) else { continue };
        match scope.place_in_memory(&path) {
            Some(found) => changes[at].linked = found.ok().and_then(|place| linked(&place)),
            None => unseen.push(at),
        }
    }
    unseen
}

/// Looks at the rest on a thread that may wait for the disk.
async fn look(
    work: &Work,
    scope: Arc<Scope>,
    dir: SharePath,
    changes: &mut [Change],
    unseen: Vec<usize>,
) -> Result<(), Fault> {
    let names: Vec<_> = unseen.iter().map(|&at| changes[at].name.clone()).collect();
    let look = move || {
        let one = |name| Some(linked(&scope.place(&dir.join(name).ok()?).ok()?));
        Ok(names.iter().map(|name| one(name).flatten()).collect::<Vec<Option<FileId>>>())
    };
    let found = work.run(Instant::now() + LOOK_DEADLINE, look).await?;
    for (at, linked) in unseen.into_iter().zip(found) {
        changes[at].linked = linked;
    }
    Ok(())
}

/// The file, where it has other names.
fn linked(place: &Place) -> Option<FileId> {
    let is_file = place.look.kind() != Some(FileKind::Directory);
    (is_file && place.look.links() > 1).then(|| place.id())
}
