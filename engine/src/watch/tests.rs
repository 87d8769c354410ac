//! Watches over a real folder and the kernel's real queue, which is read when the test says so.

use std::{fs, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{task::JoinHandle, time::Instant};
use wire::{
    ErrorCode, Grant, LeaseId, Name, Push, ShareId, SharePath, TicketId,
    auth::{Claims, Mode},
};

use super::{
    Watches,
    session::{Leases, Taken},
};
use crate::{
    config::ShareConfig,
    disk::Asked,
    error::Fault,
    files::Grant as FileGrant,
    share::{Scope, Share},
    work::Work,
};

/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Scene {
    dir: TempDir,
    scope: Arc<Scope>,
    watches: Arc<Watches>,
    work: Work,
}

impl Scene {
    fn new(watches_max: Option<usize>) -> Scene {
        let dir = TempDir::new().unwrap();
        let scope = scope(&dir, 0);
        Scene { dir, scope, watches: Watches::new(watches_max), work: Work::new() }
    }

    fn session(&self, number: u64) -> Arc<Leases> {
        Leases::new(Arc::clone(&self.watches), number)
    }

    fn attend(&self) -> JoinHandle<()> {
        tokio::spawn(Arc::clone(&self.watches).attend())
    }

    fn try_lease(&self, leases: &Arc<Leases>, at: &str, lease: u64) -> Result<Grant, Fault> {
        take(leases, &self.scope, at, lease)
    }

    fn lease(&self, leases: &Arc<Leases>, at: &str, lease: u64) {
        assert_eq!(self.try_lease(leases, at, lease), Ok(Grant::Granted), "{at}");
    }

    async fn push(&self, leases: &Leases) -> Push {
        tokio::time::timeout(PATIENCE, leases.next_push(&self.work)).await.expect("a push in time")
    }

    fn mkdir(&self, at: &str) {
        fs::create_dir_all(self.dir.path().join(at)).unwrap();
    }

    fn touch(&self, at: &str) {
        fs::write(self.dir.path().join(at), b"").unwrap();
    }

    async fn until(&self, what: impl Fn(&Watches) -> bool) {
        let met = async {
            while !what(&self.watches) {
                tokio::task::yield_now().await;
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, met).await;
        outcome.unwrap_or_else(|_| panic!("not in time: {:?}", self.watches.usage()));
    }
}

fn scope(dir: &TempDir, id: u16) -> Arc<Scope> {
    let config = ShareConfig::new(Name::new(b"s").unwrap(), dir.path());
    let share = Arc::new(Share::open(ShareId(id), &config).unwrap());
    Arc::new(Scope::open(share, &SharePath::root()).unwrap())
}

fn asked(scope: &Arc<Scope>, at: &str) -> Asked {
    let claims = Claims {
        id: TicketId([1; 8]),
        shares: Vec::new(),
        prefix: SharePath::root(),
        mode: Mode::ReadOnly,
        expires: 0,
    };
    Asked {
        grant: FileGrant::of(&claims),
        scope: Arc::clone(scope),
        path: SharePath::new(at.as_bytes()).unwrap(),
        id: None,
        deadline: Instant::now() + PATIENCE, // clock: a bound of a real wait
        stalls: Arc::default(),
    }
}

fn take(leases: &Arc<Leases>, scope: &Arc<Scope>, at: &str, lease: u64) -> Result<Grant, Fault> {
    let asked = asked(scope, at);
    let taken = leases.take(LeaseId(lease), &asked)?;
    let grant = taken.grant(&asked.expected_place()?.attr()?);
    taken.keep(grant);
    Ok(grant)
}

/// A file system mounted over a directory, unmounted when the test ends.
struct Mounted<'a>(&'a std::path::Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn what_is_mounted_over_a_leased_directory_calls_its_leases_back() {
    let (scene, other) = (Scene::new(None), TempDir::new().unwrap());
    scene.mkdir("a/b");
    let (session, elsewhere) = (scene.session(1), scene.session(2));
    let attending = scene.attend();
    scene.touch("a/first");
    scene.lease(&session, "a/b", 1);
    scene.lease(&session, "a", 2);
    assert_eq!(take(&elsewhere, &scope(&other, 1), "", 1), Ok(Grant::Granted));
    // The table is read once the host attends: what is pushed shows that it does.
    scene.touch("a/second");
    let Push::Changed { lease, .. } = scene.push(&session).await else { panic!("a change") };
    assert_eq!(lease, LeaseId(2));
    let at = scene.dir.path().join("a/b");
    let none = rustix::mount::MountFlags::empty();
    if let Err(error) = rustix::mount::mount("none", &at, "tmpfs", none, None) {
        let required = std::env::var("WORMHOLE_REQUIRE").is_ok_and(|names| names.contains("fuse"));
        assert!(!required, "mounting is required here: {error}");
        #[expect(clippy::print_stdout, reason = "a skipped test says so")]
        let () = println!("skipped: this process may not mount ({error})");
        return;
    }
    let mounted = Mounted(&at);
    let both = |pushed: &mut Vec<LeaseId>, push| match push {
        Push::Revoked(leases) => pushed.extend(leases),
        Push::RevokedAll => pushed.extend([LeaseId(1), LeaseId(2)]),
        Push::Changed { .. } => {}
    };
    let mut revoked = Vec::new();
    while revoked.len() < 2 {
        both(&mut revoked, scene.push(&session).await);
    }
    assert_eq!(scene.watches.usage().leases, 1, "that of the other share stays");
    // The same when it goes; what is mounted itself has no leases.
    assert_eq!(scene.try_lease(&session, "a/b", 3), Ok(Grant::Unwatchable));
    scene.lease(&session, "a", 4);
    drop(mounted);
    let mut revoked = Vec::new();
    while revoked.is_empty() {
        both(&mut revoked, scene.push(&session).await);
    }
    attending.abort();
}

/// The kernel's queue, overrun: more events than it keeps before anybody reads them.
#[tokio::test]
async fn a_queue_that_overflows_calls_back_every_lease_of_every_session() {
    let scene = Scene::new(None);
    scene.mkdir("a");
    let (one, two, idle) = (scene.session(1), scene.session(2), scene.session(3));
    scene.lease(&one, "a", 1);
    scene.lease(&one, "", 2);
    scene.lease(&two, "a", 1);
    let max = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let max: usize = max.trim().parse().unwrap();
    for n in 0..max {
        scene.touch(&format!("a/{}", n % 100));
    }
    let attending = scene.attend();
    for session in [&one, &two] {
        // What was read before the loss may go first.
        while scene.push(session).await != Push::RevokedAll {}
    }
    let usage = scene.watches.usage();
    assert_eq!((usage.watches, usage.leases, usage.counts.overflows), (0, 0, 1), "{usage:?}");
    // The next instance is a good one.
    scene.lease(&one, "a", 3);
    scene.touch("a/new");
    let Push::Changed { lease, .. } = scene.push(&one).await else { panic!("a change") };
    assert_eq!(lease, LeaseId(3));
    // Who had nothing is told nothing.
    scene.lease(&idle, "", 1);
    scene.touch("marker");
    assert!(matches!(scene.push(&idle).await, Push::Changed { lease: LeaseId(1), .. }));
    attending.abort();
}

#[tokio::test]
async fn a_directory_with_too_many_changes_at_once_is_called_back_alone() {
    let scene = Scene::new(None);
    scene.mkdir("many");
    scene.mkdir("few");
    let session = scene.session(1);
    scene.lease(&session, "many", 1);
    scene.lease(&session, "few", 2);
    for n in 0..2_000 {
        scene.touch(&format!("many/{n}"));
    }
    scene.touch("few/one");
    let attending = scene.attend();
    scene.until(|watches| watches.usage().counts.revoked == 1).await;
    let mut pushes = [scene.push(&session).await, scene.push(&session).await];
    pushes.sort_by_key(|push| matches!(push, Push::Changed { .. }));
    assert_eq!(pushes[0], Push::Revoked(vec![LeaseId(1)]));
    assert!(matches!(&pushes[1], Push::Changed { lease: LeaseId(2), changes } if changes.len() == 1));
    attending.abort();
}

#[tokio::test]
async fn a_session_that_takes_nothing_is_called_back_as_a_whole() {
    let scene = Scene::new(None);
    let session = scene.session(1);
    for dir in 0..20 {
        scene.mkdir(&format!("{dir}"));
        scene.lease(&session, &format!("{dir}"), dir + 1);
    }
    let attending = scene.attend();
    // 20 directories of 700 names of 60 bytes: above a mebibyte, and no directory has too many.
    for dir in 0..20 {
        for n in 0..700 {
            scene.touch(&format!("{dir}/{n:060}"));
        }
        // The kernel's queue is not what is to overflow.
        tokio::task::yield_now().await;
    }
    scene.until(|watches| watches.usage().leases == 0).await;
    assert_eq!(scene.push(&session).await, Push::RevokedAll);
    assert_eq!(scene.watches.usage().counts.overflows, 0);
    scene.until(|watches| watches.usage().watches == 0).await;
    attending.abort();
}

#[tokio::test]
async fn at_the_limit_of_watches_leases_are_refused_until_others_go() {
    let scene = Scene::new(Some(4));
    ["a/b", "c", "d"].into_iter().for_each(|at| scene.mkdir(at));
    let attending = scene.attend();
    let (one, two) = (scene.session(1), scene.session(2));
    // The top, a, b.
    scene.lease(&one, "a/b", 1);
    scene.lease(&one, "c", 2);
    assert_eq!(scene.try_lease(&two, "d", 1), Ok(Grant::Exhausted));
    // What is watched already costs nothing more.
    scene.lease(&two, "a", 2);
    scene.lease(&two, "c", 3);
    assert_eq!(scene.watches.usage().counts.refused, 1);
    one.release(&[LeaseId(1)]);
    scene.until(|watches| watches.usage().watches == 3).await;
    scene.lease(&two, "d", 4);
    two.end();
    one.end();
    scene.until(|watches| watches.usage().watches == 0).await;
    // Who has ended gets none, however late he asks.
    assert_eq!(scene.try_lease(&two, "d", 5).unwrap_err().code, ErrorCode::Stopping);
    assert_eq!(scene.watches.usage().leases, 0);
    attending.abort();
}

#[tokio::test]
async fn a_directory_of_two_shares_has_one_watch_and_tells_both() {
    let scene = Scene::new(None);
    scene.mkdir("a");
    let attending = scene.attend();
    let session = scene.session(1);
    let inner = TempDir::new_in(scene.dir.path().join("a")).unwrap();
    let name = inner.path().file_name().unwrap().to_str().unwrap().to_owned();
    let other = scope(&inner, 1);
    scene.lease(&session, &format!("a/{name}"), 1);
    assert_eq!(take(&session, &other, "", 2), Ok(Grant::Granted));
    assert_eq!(scene.watches.usage().watches, 3);
    fs::write(inner.path().join("new"), b"").unwrap();
    let mut told = Vec::new();
    while told.len() < 2 {
        if let Push::Changed { lease, .. } = scene.push(&session).await
            && !told.contains(&lease)
        {
            told.push(lease);
        }
    }
    // The one stays when the other goes, and when the way to the other moves.
    session.release(&[LeaseId(1)]);
    fs::write(inner.path().join("next"), b"").unwrap();
    loop {
        if let Push::Changed { lease, changes } = scene.push(&session).await
            && changes.iter().any(|change| change.name.as_bytes() == b"next")
        {
            assert_eq!(lease, LeaseId(2));
            break;
        }
    }
    scene.until(|watches| watches.usage().watches == 1).await;
    attending.abort();
}

#[tokio::test]
async fn a_lease_whose_answer_is_never_given_is_no_more() {
    let scene = Scene::new(None);
    scene.mkdir("a");
    let attending = scene.attend();
    let session = scene.session(1);
    let asked = asked(&scene.scope, "a");
    let taken = session.take(LeaseId(1), &asked).unwrap();
    assert!(matches!(taken, Taken::Held(_)));
    assert_eq!(scene.watches.usage().leases, 1);
    drop(taken);
    // Nor is one on another directory than the attributes are of.
    let taken = session.take(LeaseId(1), &asked).unwrap();
    let grant = taken.grant(&scene.scope.root_attr().unwrap());
    assert_eq!(grant, Grant::Exhausted);
    taken.keep(grant);
    scene.until(|watches| watches.usage().watches == 0).await;
    assert_eq!(scene.watches.usage().leases, 0);
    attending.abort();
}

/// Threads that lease and give back while others move the directories they ask for.
#[tokio::test]
async fn racing_walks_leave_nothing_behind() {
    let scene = Scene::new(None);
    scene.mkdir("a/b/c");
    let attending = scene.attend();
    let sessions: Vec<_> = (1..=4).map(|number| scene.session(number)).collect();
    let scope = &scene.scope;
    std::thread::scope(|threads| {
        for session in &sessions {
            threads.spawn(move || {
                for lease in 1..300 {
                    // It may be away just then, or on its way elsewhere.
                    let _ = take(session, scope, "a/b/c", lease);
                    let _ = take(session, scope, "x/b", lease + 1_000);
                    session.release(&[LeaseId(lease), LeaseId(lease + 1_000)]);
                }
            });
        }
        threads.spawn(|| {
            let at = |name: &str| scene.dir.path().join(name);
            for _ in 0..300 {
                fs::rename(at("a"), at("x")).unwrap();
                fs::rename(at("x"), at("a")).unwrap();
            }
        });
    });
    drop(sessions);
    scene.until(|watches| watches.usage().watches == 0).await;
    assert_eq!(scene.watches.usage().leases, 0);
    attending.abort();
}
