//! The state of the host's file systems: shown as last known and refreshed behind the answer, so that `df` never hangs.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};
use wire::{Reply, Request, ShareId, limits, listing::Statfs};

use super::{Vfs, away::REFRESH_DEADLINE, inode::NodeId, unexpected};
use crate::error::VfsError;

/// How long the state of the file systems is shown before it is asked for anew.
const TTL: Duration = Duration::from_secs(1);

/// The unit in which the states of several file systems are added up.
const SUM_BLOCK_BYTES: u32 = 4096;

/// The largest block that is believed: what programs take for the size of a good read.
const BLOCK_BYTES_MAX: u32 = 1 << 20;

/// What was said last of each share's file system. At most twice [`limits::SHARES_MAX`].
#[derive(Default)]
pub(super) struct Shown(Vec<Known>);

struct Known {
    share: ShareId,
    statfs: Statfs,
    asked: Option<Instant>,
}

impl Shown {
    fn of(&mut self, share: ShareId) -> &mut Known {
        let index = match self.0.iter().position(|known| known.share == share) {
            Some(index) => index,
            None => {
                if self.0.len() >= 2 * limits::SHARES_MAX {
                    self.0.remove(0);
                }
                self.0.push(Known { share, statfs: Statfs::default(), asked: None });
                self.0.len() - 1
            }
        };
        &mut self.0[index]
    }

    /// The state of these shares together.
    fn sum(&mut self, shares: &[ShareId]) -> Statfs {
        match shares {
            [share] => self.of(*share).statfs,
            _ => sum(shares.iter().map(|share| self.of(*share).statfs).collect()),
        }
    }
}

/// Several file systems as one. Those of equal size are taken for one: shares often are folders of one file system.
fn sum(all: Vec<Statfs>) -> Statfs {
    let mut different: Vec<Statfs> = Vec::with_capacity(all.len());
    for one in all {
        let size = |of: &Statfs| (of.block_bytes, of.blocks, of.files);
        if !different.iter().any(|other| size(other) == size(&one)) {
            different.push(one);
        }
    }
    let mut total = Statfs { block_bytes: SUM_BLOCK_BYTES, ..Statfs::default() };
    for one in different {
        let blocks = |count: u64| count.saturating_mul(one.block_bytes.into()) / u64::from(SUM_BLOCK_BYTES);
        total.name_bytes_max = total.name_bytes_max.max(one.name_bytes_max);
        total.blocks = total.blocks.saturating_add(blocks(one.blocks));
        total.blocks_free = total.blocks_free.saturating_add(blocks(one.blocks_free));
        total.blocks_available = total.blocks_available.saturating_add(blocks(one.blocks_available));
        total.files = total.files.saturating_add(one.files);
        total.files_free = total.files_free.saturating_add(one.files_free);
    }
    total
}

/// What a program can calculate with, whatever the host says.
fn credible(said: Statfs) -> Statfs {
    let name_bytes_max = u32::try_from(limits::NAME_BYTES_MAX).unwrap_or(u32::MAX);
    let blocks_free = said.blocks_free.min(said.blocks);
    Statfs {
        block_bytes: said.block_bytes.clamp(512, BLOCK_BYTES_MAX),
        name_bytes_max: said.name_bytes_max.clamp(1, name_bytes_max),
        blocks: said.blocks,
        blocks_free,
        blocks_available: said.blocks_available.min(blocks_free),
        files: said.files,
        files_free: said.files_free.min(said.files),
    }
}

impl Vfs {
    /// The state of the file system that a node's share is on, as last known; of all shares together at the folder that
    /// holds them. Never waits; refreshed behind the answer.
    pub fn statfs(&self, node: NodeId) -> Statfs {
        let shares = self.shares_at(node);
        let now = Instant::now();
        let connected = self.0.client.stats().connected;
        let mut shown = self.0.statfs.lock();
        for &share in &shares {
            let known = shown.of(share);
            if connected && known.asked.is_none_or(|asked| now >= asked + TTL) {
                known.asked = Some(now);
                let vfs = self.clone();
                self.0.lane.spawn(async move {
                    // A failure leaves the last known one in place; the next `df` asks again.
                    let _ = vfs.refresh(share, now + REFRESH_DEADLINE).await;
                });
            }
        }
        shown.sum(&shares)
    }

    /// Asks the host for the state of every share's file system.
    ///
    /// # Errors
    /// What the host says of the first that fails.
    pub async fn refresh_statfs(&self, deadline: Instant) -> Result<(), VfsError> {
        let mut asking = JoinSet::new();
        for share in self.shares_at(NodeId::ROOT) {
            let vfs = self.clone();
            asking.spawn(async move { vfs.refresh(share, deadline).await });
        }
        let mut outcome = Ok(());
        while let Some(one) = asking.join_next().await {
            outcome = outcome.and(one.unwrap_or(Err(VfsError::Closed)));
        }
        outcome
    }

    fn shares_at(&self, node: NodeId) -> Vec<ShareId> {
        match self.0.state.lock().nodes.share(node) {
            Some(share) => return vec![share],
            None if !self.0.is_folder_of_shares(node) => return Vec::new(),
            None => {}
        }
        self.shares().iter().map(|share| share.id).collect()
    }

    async fn refresh(&self, share: ShareId, deadline: Instant) -> Result<(), VfsError> {
        match self.0.call(Request::Statfs(share), deadline).await? {
            Reply::Statfs(said) => {
                let mut shown = self.0.statfs.lock();
                let known = shown.of(share);
                (known.statfs, known.asked) = (credible(said), Some(Instant::now()));
                Ok(())
            }
            other => Err(unexpected(&other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Statfs = Statfs {
        block_bytes: 8192,
        name_bytes_max: 255,
        blocks: 1000,
        blocks_free: 600,
        blocks_available: 500,
        files: 50,
        files_free: 40,
    };

    #[test]
    fn shares_of_one_file_system_count_once_and_others_add_up() {
        let other = Statfs { block_bytes: 4096, blocks: 10, blocks_free: 3, blocks_available: 2, ..ONE };
        let total = sum(vec![ONE, other, Statfs { blocks_free: 599, ..ONE }]);
        assert_eq!(total.block_bytes, 4096);
        assert_eq!((total.blocks, total.blocks_free, total.blocks_available), (2010, 1203, 1002));
        assert_eq!((total.files, total.files_free, total.name_bytes_max), (100, 80, 255));
        let huge = Statfs { blocks: u64::MAX, files: u64::MAX, ..ONE };
        assert_eq!(sum(vec![huge, Statfs { blocks: u64::MAX - 1, ..huge }]).files, u64::MAX);
    }

    #[test]
    fn what_a_host_says_is_made_credible() {
        let odd =
            Statfs { block_bytes: 0, blocks_free: u64::MAX, files_free: 51, name_bytes_max: 9999, ..ONE };
        let shown = credible(odd);
        assert_eq!((shown.block_bytes, shown.blocks_free, shown.blocks_available), (512, 1000, 500));
        assert_eq!((shown.files_free, shown.name_bytes_max), (50, 255));
        assert_eq!(credible(ONE), ONE);
    }

    #[test]
    fn no_more_is_remembered_than_there_can_be_shares() {
        let mut shown = Shown::default();
        for id in 0..1000 {
            shown.of(ShareId(id));
        }
        assert_eq!(shown.0.len(), 2 * limits::SHARES_MAX);
        assert_eq!(shown.sum(&[]), Statfs { block_bytes: SUM_BLOCK_BYTES, ..Statfs::default() });
    }
}
