//! A program on the mount: looks up, opens, reads, lists, and checks all it is told.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};
use wire::{Extent, FileKind};
use wormhole_fusefront::{
    error::VfsError,
    vfs::{By, Vfs, attr::NodeAttr, handle::HandleId, inode::NodeId, open::KernelPages},
};

use crate::{
    check::{self, Allowed, MEMORY, Opened},
    clock::{now, pass},
    kernel::{Inode, inode_of},
    rig::{self, HOT, Sim},
    rng::Rng,
    world::{Key, Seq, Span, key_of},
};

/// The paused clock goes in steps of a millisecond, and a deadline passed is noticed at the next.
const SLACK: Duration = Duration::from_millis(5);
/// `ls -d` on the mountpoint never takes longer.
const ROOT_PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct Program {
    pub(crate) sim: Arc<Sim>,
    pub(crate) rng: Rng,
    number: u64,
    sessions: u64,
    /// The root of the share it works in.
    root: NodeId,
}

/// What came of an operation.
pub(crate) struct Answer<T> {
    pub(crate) result: Result<T, VfsError>,
    pub(crate) span: Span,
    pub(crate) began: Instant,
}

/// A folder whose node the program holds.
pub(crate) struct Folder {
    pub(crate) node: NodeId,
    pub(crate) key: Key,
    /// Nothing the mount knows of it is older.
    pub(crate) since: Seq,
}

/// One operation: it ends by its deadline, or the run fails. `give_up` drops it earlier; then there is no answer.
async fn bounded<T>(
    sim: &Sim,
    what: &str,
    (deadline, give_up): (Instant, Option<Instant>),
    work: impl Future<Output = Result<T, VfsError>>,
) -> Option<Answer<T>> {
    let (began, from) = (now(), sim.world.lock().seq());
    let until = give_up.unwrap_or(deadline + SLACK);
    let outcome = timeout_at(until, work).await;
    let Ok(result) = outcome else {
        assert!(give_up.is_some(), "{what} is past its deadline");
        sim.step(format_args!("{what}: given up"));
        sim.count("given up");
        return None;
    };
    assert!(now() <= deadline + SLACK, "{what} took {:?}", began.elapsed());
    let outcome = match &result {
        Ok(_) => "ok".to_owned(),
        Err(VfsError::Host { code, .. }) => format!("{code:?}"),
        Err(error) => format!("{error:?}").split([' ', '{']).next().unwrap_or_default().to_owned(),
    };
    sim.step(format_args!("{what}: {outcome}"));
    let operation = what.split(' ').nth(2).unwrap_or_default();
    sim.count(&format!("{operation}: {outcome}"));
    Some(Answer { result, span: Span { from, to: sim.world.lock().seq() }, began })
}

impl<T> Answer<T> {
    /// The value; an error is checked and then only a `None`.
    pub(crate) fn checked(self, sim: &Sim, allowed: impl FnOnce() -> Allowed) -> Option<(T, Span)> {
        match self.result {
            Ok(value) => Some((value, self.span)),
            Err(error) => {
                check::error(&error, allowed(), sim.trouble(), self.began);
                None
            }
        }
    }
}

impl Program {
    pub(crate) fn new(sim: &Arc<Sim>, number: u64, sessions: u64) -> Program {
        Program {
            sim: sim.clone(),
            rng: Rng::new(sim.profile.seed, 100 + number),
            number,
            sessions,
            root: NodeId::ROOT,
        }
    }

    pub(crate) async fn run(mut self) {
        self.enter_a_share().await;
        for _ in 0..self.sessions {
            match self.rng.below(100) {
                0..70 => self.visit_a_file().await,
                70..80 => self.list_a_folder().await,
                80..90 => self.read_a_link().await,
                90..97 => self.look_at_the_root().await,
                _ => drop(self.sim.vfs.statfs(self.root)),
            }
            let pause = if self.rng.percent(60) { self.rng.millis(0, 30) } else { self.rng.millis(0, 1_500) };
            pass(pause).await;
        }
        if self.root != NodeId::ROOT {
            self.sim.vfs.forget(self.root, 1);
        }
    }

    /// Where there are several, they are folders of the root, which waits for no host.
    async fn enter_a_share(&mut self) {
        let shares = self.sim.profile.shares;
        if shares < 2 {
            return;
        }
        let name = rig::share_name(self.rng.below(shares));
        self.root = loop {
            let text = name.clone();
            let look =
                async move |vfs: Vfs, deadline| vfs.lookup(NodeId::ROOT, text.as_bytes(), deadline).await;
            if let Some(answer) = self.ask("lookup of a share", look).await {
                break answer.result.expect("a share is shown in any case").node;
            }
        };
    }

    /// Calls the vfs with a deadline; now and then loses patience earlier.
    pub(crate) async fn ask<T, F>(
        &mut self,
        what: &str,
        call: impl FnOnce(Vfs, Instant) -> F,
    ) -> Option<Answer<T>>
    where
        F: Future<Output = Result<T, VfsError>>,
    {
        let what = format!("program {}: {what}", self.number);
        let (deadline, give_up) = self.patience();
        let work = call(self.sim.vfs.clone(), deadline);
        bounded(&self.sim, &what, (deadline, give_up), work).await
    }

    fn patience(&mut self) -> (Instant, Option<Instant>) {
        let deadline = now() + self.sim.profile.deadline;
        let give_up = self.rng.percent(4).then(|| now() + self.rng.millis(0, 200));
        (deadline, give_up)
    }

    fn root(&self) -> Folder {
        let key = self.sim.world.lock().at("").unwrap();
        Folder { node: self.root, key, since: 0 }
    }

    /// The root or a folder in it; to be left again.
    pub(crate) async fn enter(&mut self) -> Option<Folder> {
        let root = self.root();
        if self.rng.percent(40) {
            return Some(root);
        }
        let crowded = self.sim.profile.crowd > 0 && self.rng.percent(30);
        let name = if crowded { "crowd".to_owned() } else { format!("d{}", self.rng.below(5)) };
        let (found, since) = self.look_up(&root, &name).await?;
        if found.attr.kind != FileKind::Directory {
            self.sim.vfs.forget(found.node, 1);
            return None;
        }
        Some(Folder { node: found.node, key: key_of(&found.attr.id), since })
    }

    pub(crate) fn leave(&self, folder: &Folder) {
        if folder.node != self.root {
            self.sim.vfs.forget(folder.node, 1);
        }
    }

    /// What is there under a name, to be forgotten again, and since when the mount may know it.
    async fn look_up(&mut self, folder: &Folder, name: &str) -> Option<(NodeAttr, Seq)> {
        let since = self.sim.world.lock().seq_before(MEMORY);
        let (parent, text) = (folder.node, name.to_owned());
        let answer = self
            .ask(&format!("lookup {name}"), |vfs, deadline| async move {
                vfs.lookup(parent, text.as_bytes(), deadline).await
            })
            .await?;
        let (sim, span) = (self.sim.clone(), answer.span);
        let known = Span { from: folder.since, to: span.to };
        let (found, span) = answer.checked(&sim, || {
            let world = sim.world.lock();
            let lost = folder.node != self.root && world.lost_a_name(folder.key, known);
            Allowed { absent: world.may_miss((folder.key, known), name, span), stale: lost }
        })?;
        sim.world.lock().check_found((folder.key, known), name, span, &found);
        Some((found, since))
    }

    async fn visit_a_file(&mut self) {
        let hot = self.rng.percent(30);
        let folder = if hot { Some(self.root()) } else { self.enter().await };
        let Some(folder) = folder else { return };
        let name = if hot { HOT.to_owned() } else { format!("f{}", self.rng.below(4)) };
        if let Some((found, since)) = self.look_up(&folder, &name).await {
            let key = key_of(&found.attr.id);
            for _ in 0..self.rng.between(1, 3) {
                if self.rng.percent(30) {
                    self.look_at(found.node, key, since, By::Name).await;
                }
                self.open_and_read(inode_of(&found), key, since).await;
            }
            self.sim.vfs.forget(found.node, 1);
        }
        self.leave(&folder);
    }

    /// Asks for attributes as the kernel does: memory first.
    async fn look_at(&mut self, node: NodeId, key: Key, since: Seq, by: By) {
        if let Some((found, _)) = self.sim.vfs.attr_cached(node) {
            let world = self.sim.world.lock();
            let span = Span { from: world.seq_before(MEMORY), to: world.seq() };
            return world.check_attr(key, span, &found);
        }
        let answer =
            self.ask(&format!("getattr by {by:?}"), |vfs, deadline| async move {
                vfs.attr(node, by, deadline).await
            })
            .await;
        let Some(answer) = answer else { return };
        let (sim, span) = (self.sim.clone(), answer.span);
        let stale = || {
            let lost = sim.world.lock().lost_a_name(key, Span { from: since, to: span.to });
            Allowed { absent: false, stale: lost }
        };
        if let Some((found, span)) = answer.checked(&sim, stale) {
            sim.world.lock().check_attr(key, span, &found);
        }
    }

    async fn open_and_read(&mut self, inode: Inode, key: Key, since: Seq) {
        let node = inode.0;
        let pages = KernelPages::Used;
        let answer =
            self.ask("open", move |vfs, deadline| async move { vfs.open(node, pages, deadline).await }).await;
        let Some(answer) = answer else { return };
        let (sim, span) = (self.sim.clone(), answer.span);
        let stale = || {
            let lost = sim.world.lock().lost_a_name(key, Span { from: since, to: span.to });
            // A name that went away may be told as that, too.
            Allowed { absent: lost, stale: lost }
        };
        let Some((opened, span)) = answer.checked(&sim, stale) else { return };
        let mut file = Opened::new(&sim.world.lock(), key, since, span);
        sim.pages.opened(&sim.world.lock(), (inode, key), span, opened.keep_pages);
        sim.count(if opened.keep_pages { "pages kept" } else { "pages dropped" });
        let mut at = 0;
        for _ in 0..self.rng.between(0, 8) {
            let extents = self.next_extents(&mut at, key);
            self.read((inode, opened.handle), &mut file, &extents).await;
            if self.rng.percent(10) {
                self.look_at(node, key, since, By::File).await;
            }
            // Two in a hundred let the host close the file meanwhile.
            match self.rng.below(100) {
                0..60 => {}
                60..98 => pass(self.rng.millis(0, 400)).await,
                _ => pass(Duration::from_secs(70)).await,
            }
        }
        sim.vfs.release(opened.handle);
    }

    /// One read or two at once: on from `at`, or anywhere, also past the end.
    fn next_extents(&mut self, at: &mut u64, key: Key) -> Vec<Extent> {
        let size = self.sim.world.lock().current(key).version.size.0;
        if self.rng.percent(25) {
            *at = self.rng.below(size + 10_000);
        }
        let count = if self.rng.percent(25) { 2 } else { 1 };
        let mut extents = Vec::with_capacity(count);
        for _ in 0..count {
            let most = *self.rng.pick(&[100, 4 << 10, 16 << 10, 128 << 10, 128 << 10, 300 << 10, 1 << 20]);
            let len = if self.rng.percent(70) { most } else { self.rng.between(1, most) };
            extents.push(Extent::new(*at, len));
            *at += len;
        }
        extents
    }

    /// Reads at once what is asked for, and checks the answers in the order they came.
    async fn read(&mut self, handle: (Inode, HandleId), file: &mut Opened, extents: &[Extent]) {
        let mut reads = JoinSet::new();
        for &extent in extents {
            let (sim, number, patience) = (self.sim.clone(), self.number, self.patience());
            reads.spawn(async move { (extent, read(&sim, number, handle, extent, patience).await) });
        }
        while let Some(read) = reads.join_next().await {
            let (extent, answer) = read.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            let Some(answer) = answer else { continue };
            let (sim, until) = (self.sim.clone(), answer.span.to);
            let stale = || Allowed { absent: false, stale: file.may_be_stale(&sim.world.lock(), until) };
            if let Some((bytes, _)) = answer.checked(&sim, stale) {
                file.check_read(&sim.world.lock(), extent, &bytes, until);
            }
        }
    }

    async fn read_a_link(&mut self) {
        let root = self.root();
        let name = format!("s{}", self.rng.below(2));
        let Some((found, since)) = self.look_up(&root, &name).await else { return };
        let (node, key) = (found.node, key_of(&found.attr.id));
        let answer =
            self.ask("readlink", |vfs, deadline| async move { vfs.readlink(node, deadline).await }).await;
        let sim = self.sim.clone();
        if let Some(answer) = answer {
            let span = answer.span;
            let stale = || {
                let lost = sim.world.lock().lost_a_name(key, Span { from: since, to: span.to });
                Allowed { absent: false, stale: lost }
            };
            if let Some((text, _)) = answer.checked(&sim, stale) {
                // A symlink's text never changes; another one is another file.
                assert_eq!(text[..], sim.world.lock().current(key).bytes[..]);
            }
        }
        sim.vfs.forget(node, 1);
    }

    /// Answered in any case, and soon.
    async fn look_at_the_root(&mut self) {
        let (began, root) = (now(), self.root);
        let answer =
            self.ask("getattr of the root", |vfs, deadline| async move {
                vfs.attr(root, By::Name, deadline).await
            })
            .await;
        let Some(Answer { result, .. }) = answer else { return };
        let found = result.expect("the root is shown in any case");
        assert_eq!(key_of(&found.attr.id), self.root().key);
        assert!(began.elapsed() <= ROOT_PATIENCE + SLACK, "the root took {:?}", began.elapsed());
        let shares = self.sim.profile.shares;
        if shares > 1 {
            let (folder, _) = self.sim.vfs.attr_cached(NodeId::ROOT).expect("the mount's own");
            assert_eq!(u64::from(folder.attr.links), 2 + shares);
        }
    }
}

/// One read as the adapter does it: memory first, then the host.
async fn read(
    sim: &Sim,
    number: u64,
    (inode, handle): (Inode, HandleId),
    extent: Extent,
    patience: (Instant, Option<Instant>),
) -> Option<Answer<Bytes>> {
    let what = format!("program {number}: read {extent}");
    let work = async {
        match sim.vfs.read_cached(handle, extent)? {
            Some(served) => Ok(served.bytes().clone()),
            None => sim.vfs.read(handle, extent, patience.0).await.map(|served| served.bytes().clone()),
        }
    };
    let answer = bounded(sim, &what, patience, work).await;
    if let Some(Answer { result: Ok(bytes), span, .. }) = &answer {
        sim.pages.filled(&sim.world.lock(), inode, (extent, bytes), span.to);
    }
    answer
}
