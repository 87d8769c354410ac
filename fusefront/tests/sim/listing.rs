//! Listing a folder while it changes.

use std::collections::BTreeMap;

use wire::{Entry, FileKind};
use wormhole_fusefront::vfs::{dir::offset_of, handle::HandleId, listing::Listed};

use crate::{
    check::Allowed,
    clock::pass,
    program::{Folder, Program},
    world::{Span, World, join, key_of},
};

impl Program {
    pub(crate) async fn list_a_folder(&mut self) {
        let Some(folder) = self.enter().await else { return };
        let from = self.sim.world.lock().seq();
        let node = folder.node;
        let answer =
            self.ask("opendir", |vfs, deadline| async move { vfs.opendir(node, deadline).await }).await;
        let sim = self.sim.clone();
        let span = answer.as_ref().map_or(Span { from, to: from }, |answer| answer.span);
        let opened = answer.and_then(|answer| answer.checked(&sim, || self.may_be_gone(&folder, span)));
        if let Some((dir, _)) = opened {
            if let Some(entries) = self.list_all(dir, &folder).await {
                let world = sim.world.lock();
                check_listing(&world, &folder, Span { from, to: world.seq() }, &entries);
            }
            sim.vfs.releasedir(dir);
        }
        self.leave(&folder);
    }

    fn may_be_gone(&self, folder: &Folder, span: Span) -> Allowed {
        let lost = self.sim.world.lock().lost_a_name(folder.key, Span { from: folder.since, to: span.to });
        Allowed { absent: false, stale: lost }
    }

    /// Every entry from the first page to the last; `None` where a page failed for a good reason.
    async fn list_all(&mut self, dir: HandleId, folder: &Folder) -> Option<Vec<Entry>> {
        let sim = self.sim.clone();
        let mut entries = Vec::new();
        let mut offset = 0;
        loop {
            let cursor = match sim.vfs.listing_cached(dir, offset).unwrap() {
                Some(cursor) => cursor,
                None => {
                    let answer = self
                        .ask("list", |vfs, deadline| async move { vfs.listing(dir, offset, deadline).await })
                        .await?;
                    let span = answer.span;
                    answer.checked(&sim, || self.may_be_gone(folder, span))?.0
                }
            };
            // As many as fit the kernel's buffer.
            let room = self.rng.between(1, 200) as usize;
            let before = entries.len();
            for entry in cursor.page.entries.iter().skip(cursor.index).take(room) {
                offset = offset_of(entry.cookie);
                self.count(dir, entry);
                entries.push(entry.clone());
            }
            if entries.len() == before {
                assert!(cursor.page.end, "a page without entries that is not the last");
                return Some(entries);
            }
            if self.rng.percent(20) {
                pass(self.rng.millis(0, 300)).await;
            }
        }
    }

    /// Takes note of an entry as a listing with attributes does, and forgets it again.
    fn count(&mut self, dir: HandleId, entry: &Entry) {
        // Refused where the folder itself was moved meanwhile; the kernel then looks the name up.
        if let Ok(listed) = self.sim.vfs.list(dir, entry) {
            assert!(matches!(listed, Listed::Known(_)), "the host could look at all of them");
            self.sim.vfs.forget(listed.node(), 1);
        }
    }
}

/// Panics unless each name that was there all the time is listed once, and none that never was.
fn check_listing(world: &World, folder: &Folder, span: Span, entries: &[Entry]) {
    let known = Span { from: folder.since, to: span.to };
    if world.lost_a_name(folder.key, known) {
        // Under which path it was listed is not known; the names below it moved with it.
        return;
    }
    let paths = world.folder_paths(folder.key, known);
    let [path] = paths.as_slice() else { panic!("{paths:?} of one folder that never moved") };
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for entry in entries {
        let name = String::from_utf8(entry.name.as_bytes().to_owned()).unwrap();
        let full = join(path, &name);
        let bindings: Vec<_> = world.bindings(&full).iter().filter(|binding| binding.is_in(span)).collect();
        assert!(!bindings.is_empty(), "{full} is listed and never was there");
        let attr = entry.attr.expect("the host could look at all of them");
        let key = key_of(&attr.id);
        let fits = bindings.iter().any(|binding| binding.key == key);
        assert!(fits, "{full} is listed as {key:?}, which it never was");
        let version = world.versions(key, span).contains(&attr.version());
        assert!(
            version || attr.kind == FileKind::Directory,
            "{full} is listed with {attr:?}, a state it never had"
        );
        *counts.entry(full).or_default() += 1;
    }
    for (full, binding) in world.all_bindings() {
        let inside = crate::world::parent_of(full) == path && !full.is_empty();
        if inside && binding.from <= span.from && binding.until > span.to {
            let count = counts.get(full).copied().unwrap_or(0);
            assert_eq!(count, 1, "{full} was there all the time");
        }
    }
}
