//! Watching what is below a path: changes as the host pushes them, which inotify(7) cannot tell of a FUSE mount.
//!
//! Each folder below the path has a lease of its own, taken with its listing. A change may be told twice, as when a
//! folder appears and is listed while files come into it; where changes may have gone unseen that is told too.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::JoinSet,
    time::Instant,
};
use transport::Pushed;
use wire::{
    Attr, Change, Changes, FileKind, Grant, LeaseId, Name, Push, Reply, Request, ShareId, SharePath, limits,
};

use super::{
    Vfs,
    dir::{Page, Pass},
    unexpected,
    walk::{At, passes},
};
use crate::error::VfsError;

/// Folders of one watch: a quarter of what a mount may hold leases on.
pub const WATCHED_MAX: usize = 4096;
/// Requests under way at once.
const ASKED_MAX: usize = 8;
/// Bytes of a page of a listing.
const PAGE_BYTES: u32 = limits::LISTING_BYTES_MAX;

/// What a watch tells. Paths are relative to the mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// All folders below the path, so many, are watched from here on.
    Watching(usize),
    /// A name, or what it leads to, changed.
    Changed(Vec<u8>, Changes),
    /// What changed below this path up to now may have gone untold, and why.
    Missed(Vec<u8>, String),
}

/// A watch of everything below one path.
pub struct Watch {
    vfs: Vfs,
    deadline: Duration,
    pushes: broadcast::Receiver<Pushed>,
    roots: Vec<At>,
    /// Where the path is a file's: the name that is meant in its folder.
    only: Option<Name>,
    leases: HashMap<LeaseId, At>,
    places: HashMap<Place, LeaseId>,
    todo: VecDeque<Todo>,
    asked: JoinSet<Answer>,
    tells_watching: bool,
    told: VecDeque<Seen>,
}

type Place = (ShareId, SharePath);

/// A path to look at.
struct Todo {
    at: At,
    /// Whether all that is there is news.
    is_news: bool,
}

/// What the host said of a path.
struct Answer {
    todo: Todo,
    lease: LeaseId,
    outcome: Result<Found, VfsError>,
}

enum Found {
    Folder {
        grant: Option<Grant>,
        names: Vec<(Name, bool)>,
    },
    /// Anything else.
    Other,
}

impl Watch {
    /// A watch of `path`, relative to the mount; each request may take `deadline`. Nothing is asked of the host yet.
    ///
    /// # Errors
    /// [`VfsError::NoSuchName`] for a path that no host can have.
    pub fn new(vfs: &Vfs, path: &[u8], deadline: Duration) -> Result<Watch, VfsError> {
        Ok(Watch {
            vfs: vfs.clone(),
            deadline,
            pushes: vfs.0.watchers.subscribe(),
            roots: At::of(vfs, path)?,
            only: None,
            leases: HashMap::new(),
            places: HashMap::new(),
            todo: VecDeque::new(),
            asked: JoinSet::new(),
            tells_watching: true,
            told: VecDeque::new(),
        })
    }

    /// Finds all folders; to be called first.
    ///
    /// # Errors
    /// What the host says of the path.
    pub async fn begin(&mut self) -> Result<(), VfsError> {
        let [root] = self.roots.as_slice() else {
            self.start_over();
            return Ok(());
        };
        let attr = self.vfs.0.stat(root.target(), Instant::now() + self.deadline).await;
        let attr = attr.map_err(|error| passes(error).unwrap_or_else(|error| error))?;
        if attr.kind != FileKind::Directory {
            let (folder, name) = root.split().ok_or(VfsError::NotDirectory)?;
            (self.roots, self.only) = (vec![folder], Some(name));
        }
        self.start_over();
        Ok(())
    }

    fn start_over(&mut self) {
        // Dropped, what is asked is called off.
        self.asked = JoinSet::new();
        self.leases.clear();
        self.places.clear();
        self.todo = self.roots.iter().map(|at| Todo { at: at.clone(), is_news: false }).collect();
        self.tells_watching = true;
    }

    /// What is seen next; `None` once the mount ends. A dropped future loses nothing.
    ///
    /// # Errors
    /// [`VfsError::NoSuchName`] when what is watched is gone, else what the host says of it.
    pub async fn next(&mut self) -> Result<Option<Seen>, VfsError> {
        loop {
            if let Some(seen) = self.told.pop_front() {
                return Ok(Some(seen));
            }
            self.ask();
            if self.tells_watching && self.asked.is_empty() {
                self.tells_watching = false;
                return Ok(Some(Seen::Watching(self.leases.len())));
            }
            tokio::select! {
                biased;
                pushed = self.pushes.recv() => match pushed {
                    Ok(pushed) => self.take(pushed),
                    Err(RecvError::Lagged(_)) => {
                        self.missed_all("more changed at once than could be told");
                        self.release();
                        self.start_over();
                    }
                    Err(RecvError::Closed) => return Ok(None),
                },
                Some(answer) = self.asked.join_next(), if !self.asked.is_empty() => {
                    // One that was called off has nothing to say.
                    if let Ok(answer) = answer {
                        self.answered(answer)?;
                    }
                }
            }
        }
    }

    /// Sends as many requests as may be under way.
    fn ask(&mut self) {
        while self.asked.len() < ASKED_MAX
            && let Some(todo) = self.todo.pop_front()
        {
            if self.leases.len() >= WATCHED_MAX {
                let why = format!("more than {WATCHED_MAX} folders cannot be watched at once");
                self.told.push_back(Seen::Missed(todo.at.shown(&self.vfs, None), why));
                continue;
            }
            let lease = self.vfs.0.state.lock().folders.number();
            if let Some(before) = self.places.insert(todo.at.place(), lease) {
                self.leases.remove(&before);
            }
            self.leases.insert(lease, todo.at.clone());
            let (vfs, deadline) = (self.vfs.clone(), self.deadline);
            self.asked.spawn_on(
                async move {
                    let outcome = find(&vfs, (&todo, lease), deadline).await;
                    Answer { todo, lease, outcome }
                },
                &self.vfs.0.lane,
            );
        }
    }

    fn answered(&mut self, answer: Answer) -> Result<(), VfsError> {
        let Answer { todo: Todo { at, is_news }, lease, outcome } = answer;
        let is_root = self.roots.iter().any(|root| root.place() == at.place());
        match outcome {
            Ok(Found::Folder { grant: Some(Grant::Granted), names }) => {
                for (name, is_folder) in names {
                    let Ok(inside) = at.join(name.as_bytes()) else { continue };
                    if is_news {
                        self.told.push_back(Seen::Changed(inside.shown(&self.vfs, None), Changes::CREATED));
                    }
                    if is_folder && self.only.is_none() {
                        self.todo.push_back(Todo { at: inside, is_news });
                    }
                }
                return Ok(());
            }
            Ok(Found::Folder { grant, .. }) => {
                let why = match grant {
                    Some(Grant::Exhausted) => "the host watches as many folders as it may",
                    _ => "the host cannot see changes there: its file system tells of none",
                };
                self.told.push_back(Seen::Missed(at.shown(&self.vfs, None), why.to_owned()));
            }
            Ok(Found::Other) => {}
            Err(VfsError::NoSuchName | VfsError::Stale) if !is_root => {}
            Err(error) if is_root => return Err(error),
            Err(error) => {
                self.told.push_back(Seen::Missed(at.shown(&self.vfs, None), error.to_string()));
            }
        }
        self.drop_lease(lease);
        Ok(())
    }

    fn drop_lease(&mut self, lease: LeaseId) -> Option<At> {
        let at = self.leases.remove(&lease)?;
        if self.places.get(&at.place()) == Some(&lease) {
            self.places.remove(&at.place());
        }
        Some(at)
    }

    fn take(&mut self, pushed: Pushed) {
        match pushed {
            Pushed::Push(Push::Changed { lease, changes }) => {
                let Some(at) = self.leases.get(&lease).cloned() else { return };
                changes.iter().for_each(|change| self.changed(&at, change));
            }
            Pushed::Push(Push::Revoked(leases)) => {
                for lease in leases {
                    let Some(at) = self.drop_lease(lease) else { continue };
                    self.told.push_back(Seen::Missed(
                        at.shown(&self.vfs, None),
                        "it moved, went, or changed too fast".to_owned(),
                    ));
                    self.todo.push_back(Todo { at, is_news: false });
                }
            }
            Pushed::Push(Push::RevokedAll) => {
                self.missed_all("more changed at once than the host could follow");
                self.start_over();
            }
            Pushed::SessionLost => {
                self.missed_all("the host is out of reach");
                self.start_over();
                // There is nobody to ask before there is a session again.
                self.todo.clear();
                self.tells_watching = false;
            }
            Pushed::SessionBegun => self.start_over(),
        }
    }

    fn changed(&mut self, at: &At, change: &Change) {
        if self.only.as_ref().is_some_and(|only| *only != change.name) {
            return;
        }
        let Ok(at) = at.join(change.name.as_bytes()) else { return };
        self.told.push_back(Seen::Changed(at.shown(&self.vfs, None), change.what));
        if change.what.contains(Changes::CREATED) && self.only.is_none() {
            self.todo.push_back(Todo { at, is_news: true });
        }
    }

    fn missed_all(&mut self, why: &str) {
        for root in &self.roots {
            self.told.push_back(Seen::Missed(root.shown(&self.vfs, None), why.to_owned()));
        }
    }

    /// Gives all leases back.
    fn release(&mut self) {
        let leases: Vec<LeaseId> = self.leases.drain().map(|(lease, _)| lease).collect();
        self.vfs.give_back(&leases);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.release();
    }
}

/// What is at a path; of a folder the lease is taken and every name that is needed read.
async fn find(vfs: &Vfs, (todo, lease): (&Todo, LeaseId), patience: Duration) -> Result<Found, VfsError> {
    let deadline = || Instant::now() + patience;
    let Attr { kind, .. } = vfs.0.stat(todo.at.target(), deadline()).await.map_err(of_path)?;
    if kind != FileKind::Directory {
        return Ok(Found::Other);
    }
    let (mut pass, mut names, mut granted) = (Pass::default(), Vec::new(), None);
    loop {
        let cookie = pass.cookie();
        let lease = (cookie == 0).then_some(lease);
        let request = Request::List { target: todo.at.target(), cookie, bytes_max: PAGE_BYTES, lease };
        let listing = match vfs.0.call(request, deadline()).await.map_err(of_path)? {
            Reply::Listing(listing) => listing,
            other => return Err(unexpected(&other)),
        };
        granted = granted.or(listing.grant);
        let page = Page { start: cookie, entries: listing.entries, end: listing.end };
        page.check()?;
        pass.turn_to(&page)?;
        for entry in page.entries {
            let kind = entry.attr.map(|attr| attr.kind).or(entry.kind);
            let is_folder = kind == Some(FileKind::Directory);
            if is_folder || todo.is_news {
                names.push((entry.name, is_folder));
            }
        }
        if page.end || granted != Some(Grant::Granted) {
            return Ok(Found::Folder { grant: granted, names });
        }
    }
}

fn of_path(error: VfsError) -> VfsError {
    passes(error).unwrap_or_else(|error| error)
}
