//! FUSE on one side, the vfs on the other: decode, call, reply; nothing else.
//!
//! What memory can answer is answered on fuser's thread: a hop to another one costs a small read twice its time. All
//! else runs on the lane and replies from there, within the deadline: the kernel cannot take a request back, so that
//! one without an answer would be a program that cannot be killed.

mod convert;
mod direct;
mod read;
mod reply;

use std::{
    ffi::OsStr,
    future::Future,
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};
use wire::Extent;

use crate::{
    errno,
    error::VfsError,
    metrics::{Latencies, Operation},
    vfs::{
        By, Vfs,
        handle::HandleId,
        inode::NodeId,
        open::{KernelPages, Opened},
        xattr,
    },
};
use convert::file_attr;
use read::Reads;
use reply::Failing;

/// The kernel's largest read and write: one extent of the slab.
const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// Requests of the kernel's own accord (read-ahead, direct I/O) under way at once; enough for several windows.
const BACKGROUND_MAX: u16 = 64;
/// From here on the kernel holds back.
const CONGESTION_AT: u16 = 48;

/// What is asked of the kernel; each is left out where the kernel is too old for it.
///
/// READDIRPLUS_AUTO is not among them: with it the kernel lists all but the first piece of a directory without
/// attributes and then looks each entry up. `find -printf %s` on 20,000 files took 4.2 s with it and 0.17 s without;
/// plain `ls` takes 0.2 s either way.
const CAPABILITIES: [InitFlags; 6] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_AUTO_INVAL_DATA,
    InitFlags::FUSE_ASYNC_DIO,
];

/// The file system as fuser calls it.
pub struct Adapter {
    vfs: Vfs,
    lane: Handle,
    deadline: Duration,
    latencies: Arc<Latencies>,
    reads: Arc<Reads>,
}

impl Adapter {
    /// Serves `vfs`; what waits for the host runs on `lane` and fails after `deadline`.
    pub fn new(vfs: Vfs, lane: Handle, deadline: Duration) -> Adapter {
        let latencies = Arc::<Latencies>::default();
        let reads = Arc::new(Reads {
            vfs: vfs.clone(),
            lane: lane.clone(),
            deadline,
            latencies: latencies.clone(),
            direct: Arc::default(),
        });
        Adapter { vfs, lane, deadline, latencies, reads }
    }

    /// Runs `work` on the lane and hands its outcome to `answer`, at the deadline at the latest.
    ///
    /// The kernel bounds how many run at once: one for each program that waits, and [`BACKGROUND_MAX`].
    fn later<T, F>(
        &self,
        operation: Operation,
        work: impl FnOnce(Vfs, Instant) -> F,
        answer: impl FnOnce(&Vfs, Result<T, VfsError>) + Send + 'static,
    ) where
        F: Future<Output = Result<T, VfsError>> + Send + 'static,
        T: Send + 'static,
    {
        let started = Instant::now();
        let deadline = started + self.deadline;
        let (vfs, latencies) = (self.vfs.clone(), self.latencies.clone());
        let work = work(vfs.clone(), deadline);
        self.lane.spawn(async move {
            let _held = vfs.stats().in_flight.hold();
            let outcome = timeout_at(deadline, work).await.unwrap_or(Err(VfsError::Deadline));
            answer(&vfs, outcome);
            latencies.record(operation, started);
        });
    }
}

/// Fails an operation: counts it, and tells the program.
fn fail(vfs: &Vfs, reply: impl Failing, error: &VfsError) {
    if errno::is_io_error(error) {
        vfs.stats().errors.add(1);
        tracing::debug!(%error, "an operation failed");
    } else if *error == VfsError::Stale {
        vfs.stats().stale.add(1);
    }
    reply.fail(errno::of(error));
}

fn node(inode: INodeNo) -> NodeId {
    NodeId(inode.0)
}

fn handle(handle: FileHandle) -> HandleId {
    HandleId(handle.0)
}

/// The share is read-only; the kernel says so itself for most of what would change it.
fn refuse(reply: impl Failing) {
    reply.fail(errno::of(&VfsError::ReadOnly));
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for capability in CAPABILITIES {
            if config.add_capabilities(capability).is_err() {
                tracing::info!(?capability, "this kernel does not have it");
            }
        }
        // Each refusal names the nearest value that is allowed.
        if let Err(nearest) = config.set_max_write(REQUEST_BYTES_MAX) {
            let _ = config.set_max_write(nearest);
        }
        if let Err(nearest) = config.set_max_readahead(REQUEST_BYTES_MAX) {
            // The kernel offers 128 KiB; the rest is raised through the bdi after mounting.
            let _ = config.set_max_readahead(nearest);
        }
        let _ = config.set_max_background(BACKGROUND_MAX);
        let _ = config.set_congestion_threshold(CONGESTION_AT);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let started = Instant::now();
        if let Some(outcome) = self.vfs.lookup_cached(node(parent), name.as_bytes()) {
            reply::entry(&self.vfs, (node(parent), name.as_bytes()), outcome, reply);
            return self.latencies.record(Operation::Lookup, started);
        }
        let name: Arc<[u8]> = Arc::from(name.as_bytes());
        let asked = name.clone();
        self.later(
            Operation::Lookup,
            move |vfs, deadline| async move { vfs.lookup(node(parent), &asked, deadline).await },
            move |vfs, outcome| reply::entry(vfs, (node(parent), &name), outcome, reply),
        );
    }

    fn forget(&self, _req: &Request, inode: INodeNo, lookups: u64) {
        self.vfs.forget(node(inode), lookups);
    }

    fn getattr(&self, _req: &Request, inode: INodeNo, file: Option<FileHandle>, reply: ReplyAttr) {
        let started = Instant::now();
        if let Some((found, left)) = self.vfs.attr_cached(node(inode)) {
            reply.attr(&left, &file_attr(found.inode, &found.attr));
            return self.latencies.record(Operation::Getattr, started);
        }
        let by = if file.is_some() { By::File } else { By::Name };
        self.later(
            Operation::Getattr,
            move |vfs, deadline| async move { vfs.attr(node(inode), by, deadline).await },
            |vfs, outcome| match outcome {
                Ok(found) => reply.attr(&found.ttl.attr, &file_attr(found.inode, &found.attr)),
                Err(error) => fail(vfs, reply, &error),
            },
        );
    }

    fn readlink(&self, _req: &Request, inode: INodeNo, reply: ReplyData) {
        self.later(
            Operation::Readlink,
            move |vfs, deadline| async move { vfs.readlink(node(inode), deadline).await },
            |vfs, outcome| match outcome {
                Ok(text) => reply.data(&text),
                Err(error) => fail(vfs, reply, &error),
            },
        );
    }

    fn open(&self, _req: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return refuse(reply);
        }
        let pages = if convert::is_direct(flags) { KernelPages::Bypassed } else { KernelPages::Used };
        let started = Instant::now();
        let answer = move |vfs: &Vfs, outcome: Result<Opened, VfsError>| match outcome {
            Ok(opened) => {
                let mut fopen = FopenFlags::empty();
                fopen.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_pages);
                fopen.set(FopenFlags::FOPEN_DIRECT_IO, convert::is_direct(flags));
                reply.opened(FileHandle(opened.handle.0), fopen);
            }
            Err(error) => fail(vfs, reply, &error),
        };
        match self.vfs.open_cached(node(inode), pages) {
            Some((opened, false)) => {
                answer(&self.vfs, Ok(opened));
                self.latencies.record(Operation::Open, started);
            }
            Some((opened, true)) => self.later(
                Operation::Open,
                move |vfs, _| async move {
                    vfs.drop_attr(node(inode));
                    Ok(opened)
                },
                answer,
            ),
            None => self.later(
                Operation::Open,
                move |vfs, deadline| async move { vfs.open(node(inode), pages, deadline).await },
                answer,
            ),
        }
    }

    fn read(
        &self,
        _req: &Request,
        _inode: INodeNo,
        file: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.answer_read(file, Extent::new(offset, size.into()), reply);
    }

    fn release(
        &self,
        _req: &Request,
        _inode: INodeNo,
        file: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.vfs.release(handle(file));
        reply.ok();
    }

    // Nothing can be dirty, so nothing is to be flushed: after this answer the kernel asks no more, and a close costs the
    // program no round trip (FUSE_FLUSH in fuse.h of Linux; FOPEN_NOFLUSH says the same of one open, since 5.16).
    fn flush(
        &self,
        _req: &Request,
        _inode: INodeNo,
        _file: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(errno::NOT_NEEDED);
    }

    fn fsync(&self, _req: &Request, _inode: INodeNo, _file: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        _inode: INodeNo,
        _dir: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn opendir(&self, _req: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let started = Instant::now();
        if let Some(handle) = self.vfs.opendir_cached(node(inode)) {
            reply.opened(FileHandle(handle.0), convert::dir_flags(self.vfs.kernel_listing(handle)));
            return self.latencies.record(Operation::Opendir, started);
        }
        self.later(
            Operation::Opendir,
            move |vfs, deadline| async move { vfs.opendir(node(inode), deadline).await },
            |vfs, outcome| match outcome {
                Ok(handle) => {
                    reply.opened(FileHandle(handle.0), convert::dir_flags(vfs.kernel_listing(handle)));
                }
                Err(error) => fail(vfs, reply, &error),
            },
        );
    }

    fn readdir(&self, _req: &Request, _inode: INodeNo, dir: FileHandle, offset: u64, reply: ReplyDirectory) {
        let started = Instant::now();
        match self.vfs.listing_cached(handle(dir), offset) {
            Ok(Some(cursor)) => {
                reply::fill_plain(&self.vfs, handle(dir), offset, &cursor, reply);
                self.latencies.record(Operation::Readdir, started);
            }
            Err(error) => fail(&self.vfs, reply, &error),
            Ok(None) => self.later(
                Operation::Readdir,
                move |vfs, deadline| async move { vfs.listing(handle(dir), offset, deadline).await },
                move |vfs, outcome| match outcome {
                    Ok(cursor) => reply::fill_plain(vfs, handle(dir), offset, &cursor, reply),
                    Err(error) => fail(vfs, reply, &error),
                },
            ),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        _inode: INodeNo,
        dir: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let started = Instant::now();
        match self.vfs.listing_cached(handle(dir), offset) {
            Ok(Some(cursor)) => {
                reply::fill_plus(&self.vfs, handle(dir), offset, &cursor, reply);
                self.latencies.record(Operation::Readdirplus, started);
            }
            Err(error) => fail(&self.vfs, reply, &error),
            Ok(None) => self.later(
                Operation::Readdirplus,
                move |vfs, deadline| async move { vfs.listing(handle(dir), offset, deadline).await },
                move |vfs, outcome| match outcome {
                    Ok(cursor) => reply::fill_plus(vfs, handle(dir), offset, &cursor, reply),
                    Err(error) => fail(vfs, reply, &error),
                },
            ),
        }
    }

    fn releasedir(
        &self,
        _req: &Request,
        _inode: INodeNo,
        dir: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.vfs.releasedir(handle(dir));
        reply.ok();
    }

    fn statfs(&self, _req: &Request, inode: INodeNo, reply: ReplyStatfs) {
        let fs = self.vfs.statfs(node(inode));
        reply.statfs(
            fs.blocks,
            fs.blocks_free,
            fs.blocks_available,
            fs.files,
            fs.files_free,
            fs.block_bytes,
            fs.name_bytes_max,
            fs.block_bytes,
        );
    }

    fn getxattr(&self, _req: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if xattr::is_of_host_alone(name.as_bytes()) {
            return fail(&self.vfs, reply, &xattr::unsupported());
        }
        let name = name.as_bytes().to_vec(); // copy: fuser lends it until this returns
        self.later(
            Operation::Getxattr,
            move |vfs, deadline| async move { vfs.xattr(node(inode), &name, deadline).await },
            move |vfs, outcome| reply::xattr(vfs, outcome, size, reply),
        );
    }

    fn listxattr(&self, _req: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        self.later(
            Operation::Listxattr,
            move |vfs, deadline| async move { vfs.xattr_names(node(inode), deadline).await },
            move |vfs, outcome| reply::xattr(vfs, outcome, size, reply),
        );
    }

    fn setattr(
        &self,
        _req: &Request,
        _inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _file: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        refuse(reply);
    }

    fn mknod(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        refuse(reply);
    }

    fn mkdir(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        refuse(reply);
    }

    fn unlink(&self, _req: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        refuse(reply);
    }

    fn rmdir(&self, _req: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        refuse(reply);
    }

    fn symlink(&self, _req: &Request, _parent: INodeNo, _name: &OsStr, _target: &Path, reply: ReplyEntry) {
        refuse(reply);
    }

    fn rename(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _newparent: INodeNo,
        _newname: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        refuse(reply);
    }

    fn link(
        &self,
        _req: &Request,
        _inode: INodeNo,
        _newparent: INodeNo,
        _newname: &OsStr,
        reply: ReplyEntry,
    ) {
        refuse(reply);
    }

    fn write(
        &self,
        _req: &Request,
        _inode: INodeNo,
        _file: FileHandle,
        _offset: u64,
        _data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        refuse(reply);
    }

    fn create(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        refuse(reply);
    }

    fn fallocate(
        &self,
        _req: &Request,
        _inode: INodeNo,
        _file: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        refuse(reply);
    }

    fn setxattr(
        &self,
        _req: &Request,
        _inode: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        refuse(reply);
    }

    fn removexattr(&self, _req: &Request, _inode: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        refuse(reply);
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        _inode_in: INodeNo,
        _file_in: FileHandle,
        _offset_in: u64,
        _inode_out: INodeNo,
        _file_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        refuse(reply);
    }
}
